"""gRPC calls that are observed: what is put around the handlers, where anybody listens."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import unquote

from serving.core.call import CallContext, TransportReply, UnaryHandler, WithMetadata, code_of
from serving.core.call_observer import REQUEST_ID, CallObserver
from serving.core.errors import ServingError
from serving.core.observed_call import Arrival, Protocols, working_for
from serving.transport.unary_call import call_handler


def observed(
    methods: Mapping[str, UnaryHandler], observer: CallObserver | None
) -> Mapping[str, UnaryHandler]:
    """The handlers, each telling ``observer`` of its calls; themselves where there is none."""
    if observer is None:
        return methods
    return {path: _observed(path, handler, observer) for path, handler in methods.items()}


def _observed(path: str, handler: UnaryHandler, observer: CallObserver) -> UnaryHandler:
    def handle(request: bytes, context: CallContext, reply: TransportReply) -> None:
        peer = _address(context.peer)
        arrival = Arrival(Protocols.GRPC, path.removeprefix("/"), peer)
        call = observer.begin(arrival, context.metadata)
        call.request_bytes = len(request)

        def answer(result: bytes | ServingError | WithMetadata) -> None:
            message, metadata = result if isinstance(result, WithMetadata) else (result, ())
            size = 0 if isinstance(message, ServingError) else len(message)
            call.answered(code_of(message, context).name, size)
            if call.returns_request_id:
                metadata = (*metadata, (REQUEST_ID, call.request_id))
            reply(WithMetadata(message, metadata) if metadata else message)
            call.tell_ended()

        with working_for(call):
            call_handler(path, handler, request, context, answer)

    return handle


def _address(peer: str) -> str:
    """``host:port`` of what gRPC writes as ``ipv4:host:port`` or ``ipv6:%5Bhost%5D:port``."""
    family, _, address = peer.partition(":")
    return unquote(address) if family in {"ipv4", "ipv6"} else peer
