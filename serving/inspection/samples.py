"""A sample request for a loaded version, tried before anybody is shown it."""

from __future__ import annotations

from collections.abc import Mapping

from serving.core.errors import InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, Servable, Signature
from serving.core.servable_id import ServableId
from serving.inspection import document
from serving.inspection.filled import as_json
from serving.inspection.one_model import OneModel
from serving.inspection.sample_commands import Ports, curl, grpcurl, is_long, python
from serving.inspection.sample_requests import Request, RestRequest, requests_to_try

_MOST_CHARACTERS = 300
_NOT_ASKED: document.Trial = {"answered": None, "answer": ""}
_NOT_IN_JSON = "JSON has no values of its types"
_NOT_OVER_REST = "neither JSON nor files of numpy have values of its types: use gRPC"


def sample_of(
    servable_id: ServableId, servable: Servable, signature_name: str, ports: Ports
) -> document.Sample:
    """The first request that is answered through a signature, else the first one with its error.

    An empty name chooses ``serving_default``, or the first that takes something.
    """
    name = signature_name or default_signature(servable.signatures)
    model = OneModel(servable_id, servable)
    first: document.Sample | None = None
    try:
        if name not in servable.signatures:
            raise InvalidArgument("no signature takes anything")
        signature = servable.signatures[name]
        for request in requests_to_try(servable_id.name, name, signature):
            sample = _tried(model, name, signature, request, ports)
            if sample["grpc"]["answered"] and sample["rest"]["answered"] is not False:
                return sample
            first = first or sample
    except InvalidArgument as error:
        return _described(name, error.message)
    return first or _described(name, "its inputs can not be made up")


def default_signature(signatures: Mapping[str, Signature]) -> str:
    """The one that a request without a name means, or the first that takes something."""
    takes = [name for name in sorted(signatures) if signatures[name].inputs]
    return DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in takes or not takes else takes[0]


def _tried(
    model: OneModel, name: str, signature: Signature, request: Request, ports: Ports
) -> document.Sample:
    rest = request.rest
    sample = _described(name, "" if rest and rest.is_json else _reason(rest))
    sample["method"] = signature.method_name
    sample["grpc_address"] = ports.address
    sample["grpc_method"] = request.grpc.method
    sample["grpc_body"] = request.grpc.document
    sample["grpcurl"] = grpcurl(ports, request.grpc)
    sample["grpc"] = _grpc_trial(model, request)
    if rest:
        sample["rest_url"] = ports.url(rest)
        sample["rest_body"] = (
            as_json(rest.body) if rest.is_json and not is_long(rest.body) else None
        )
        sample["curl"] = curl(ports, rest)
        sample["python"] = python(ports, rest)
        sample["rest"] = _rest_trial(model, rest)
    return sample


def _reason(rest: RestRequest | None) -> str:
    return _NOT_IN_JSON if rest else _NOT_OVER_REST


def _grpc_trial(model: OneModel, request: Request) -> document.Trial:
    answer = model.call(request.grpc.method, request.grpc.message.SerializeToString())
    if isinstance(answer, ServingError):
        return {"answered": False, "answer": str(answer)}
    return {"answered": True, "answer": ""}


def _rest_trial(model: OneModel, request: RestRequest) -> document.Trial:
    status, body = model.post(request.path, request.encoded(), request.headers)
    text = body.decode("utf-8", "replace") if request.is_json or status != 200 else ""
    return {"answered": status == 200, "answer": " ".join(text[:_MOST_CHARACTERS].split())}


def _described(name: str, reason: str) -> document.Sample:
    """Nothing but why."""
    return {
        "signature_name": name,
        "method": "",
        "rest_url": "",
        "rest_body": None,
        "rest": _NOT_ASKED,
        "grpc_address": "",
        "grpc_method": "",
        "grpc_body": None,
        "grpc": _NOT_ASKED,
        "curl": "",
        "grpcurl": "",
        "python": "",
        "reason": reason,
    }
