"""gRPC's own account of its servers and connections, for those who look for a fault in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from google.protobuf.message import DecodeError

from serving.core.call import CallContext, Reply, UnaryHandler
from serving.core.errors import FailedPrecondition, InvalidArgument, error_for
from serving.core.extras import remedy

CHANNELZ = "grpc.channelz.v1.Channelz"


def channelz_methods() -> Mapping[str, UnaryHandler]:
    """The handler of each method of ``grpc.channelz.v1.Channelz``, by its full path.

    The account is kept by the part of gRPC that all engines stand on. Raises FailedPrecondition
    where grpcio-channelz is not installed.
    """
    try:
        from grpc_channelz.v1 import channelz, channelz_pb2  # noqa: PLC0415  # few want it
    except ModuleNotFoundError:
        raise FailedPrecondition(
            f"enable_channelz needs grpcio-channelz, which is not installed: {remedy('channelz')}"
        ) from None
    service = channelz_pb2.DESCRIPTOR.services_by_name["Channelz"]
    return {
        f"/{service.full_name}/{method.name}": _handler(
            getattr(channelz.ChannelzServicer, method.name),
            getattr(channelz_pb2, method.input_type.name),
        )
        for method in service.methods
    }


class _Outcome:
    """What grpcio's servicer uses of a call's context: a place for its error."""

    code: Any = None
    details = ""

    def set_code(self, code: Any) -> None:
        self.code = code

    def set_details(self, details: str) -> None:
        self.details = details


def _handler(behavior: Callable[[Any, _Outcome], Any], request_type: Any) -> UnaryHandler:
    def handle(request: bytes, _context: CallContext, reply: Reply) -> None:
        outcome = _Outcome()
        response = behavior(_parsed(request_type, request), outcome)
        if outcome.code is not None:
            raise error_for(outcome.code.value[0], outcome.details)
        reply(response.SerializeToString())

    return handle


def _parsed(request_type: Any, request: bytes) -> Any:
    try:
        return request_type.FromString(request)
    except DecodeError:
        name = request_type.DESCRIPTOR.name
        raise InvalidArgument(f"the {name} cannot be parsed") from None
