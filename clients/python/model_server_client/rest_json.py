"""The JSON documents of TensorFlow Serving's REST API, in terms of Python and numpy."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from google.protobuf import json_format

from model_server_client import messages
from model_server_client.errors import Code, ServerError
from model_server_client.generated.tensorflow_serving_pb2 import (
    GetModelStatusResponse,
    SignatureDefMap,
)
from model_server_client.models import ModelSpec, Signature, TensorInfo, VersionStatus
from model_server_client.tensors import array_from

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

_CODES = {
    400: Code.INVALID_ARGUMENT,
    401: Code.UNAUTHENTICATED,
    403: Code.PERMISSION_DENIED,
    404: Code.NOT_FOUND,
    409: Code.ABORTED,
    412: Code.FAILED_PRECONDITION,
    413: Code.RESOURCE_EXHAUSTED,
    429: Code.RESOURCE_EXHAUSTED,
    499: Code.CANCELLED,
    500: Code.INTERNAL,
    501: Code.UNIMPLEMENTED,
    502: Code.UNAVAILABLE,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}

_WRITTEN_AS = {"b": "b", "i": "iu", "u": "iu", "f": "fiu", "c": "", "V": "fiu"}
"""The kinds of numpy's types, and those that JSON's words for them make: bfloat16 is a V."""


def model_path(model: ModelSpec) -> str:
    """The path of a model, a version or a label, without its verb."""
    name = quote(model.name, safe="")
    if model.version is not None:
        return f"/v1/models/{name}/versions/{model.version}"
    if model.label is not None:
        return f"/v1/models/{name}/labels/{quote(model.label, safe='')}"
    return f"/v1/models/{name}"


def predict_body(inputs: Mapping[str, ArrayLike], signature: str) -> bytes:
    """The document of a prediction, in columns; NaN and Infinity are the tokens of that name.

    Raises TypeError for elements that JSON cannot say.
    """
    document: dict[str, Any] = {"signature_name": signature} if signature else {}
    document["inputs"] = {name: _column(name, value) for name, value in inputs.items()}
    return json.dumps(document, separators=(",", ":")).encode()


def outputs_of(body: bytes, signature: Signature) -> dict[str, np.ndarray]:
    """The arrays of an answer by name, with the types that ``signature`` says.

    Raises ServerError with INTERNAL for a document that is no answer of that signature.
    """
    with _answer_of("a prediction"):
        # Strings of a model need not be text, and servers write them as they are.
        columns = json.loads(body.decode("utf-8", "surrogateescape"))["outputs"]
        # A server leaves out the name of an only output.
        if len(signature.outputs) == 1:
            columns = dict.fromkeys(signature.outputs, columns)
        elif columns.keys() != signature.outputs.keys():
            raise ValueError(f"it has the outputs {sorted(columns)}")
        return {name: _array(columns[name], info) for name, info in signature.outputs.items()}


def statuses_of(body: bytes) -> tuple[VersionStatus, ...]:
    """Raises ServerError with INTERNAL for a document that is no status."""
    with _answer_of("a status"):
        return messages.version_statuses(
            json_format.Parse(body, GetModelStatusResponse(), ignore_unknown_fields=True)
        )


def signatures_of(body: bytes) -> dict[str, Signature]:
    """Raises ServerError with INTERNAL for a document that is no metadata."""
    with _answer_of("metadata"):
        metadata = json.loads(body)["metadata"]["signature_def"]
        return messages.signatures(
            json_format.ParseDict(metadata, SignatureDefMap(), ignore_unknown_fields=True)
        )


def error_of(status: int, body: bytes) -> ServerError:
    """What an answer that is not 200 says."""
    try:
        message = str(json.loads(body)["error"])
    except (ValueError, TypeError, KeyError):
        message = body.decode("utf-8", "replace")
    return ServerError(_CODES.get(status, Code.UNKNOWN), message or f"HTTP {status}")


@contextmanager
def _answer_of(kind: str) -> Iterator[None]:
    """Raises whatever reading a document raises that is something else as ServerError."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise ServerError(Code.INTERNAL, f"not an answer with {kind}: {error!r}") from error
    except json_format.ParseError as error:
        raise ServerError(Code.INTERNAL, f"not an answer with {kind}: {error}") from error


def _column(name: str, value: ArrayLike) -> Any:
    array = array_from(value)
    if array.dtype.kind in "biuf":
        return array.tolist()
    if array.dtype.kind in "SUO":
        return _strings(name, array.tolist())
    raise TypeError(f"input {name!r} has elements of {array.dtype}, which JSON cannot say")


def _strings(name: str, value: Any) -> Any:
    if isinstance(value, list):
        return [_strings(name, item) for item in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()}
    if isinstance(value, str):
        return value
    raise TypeError(f"input {name!r} has an element of {type(value).__name__}")


def _array(value: Any, info: TensorInfo) -> np.ndarray:
    if info.dtype is None:
        raise ValueError("numpy has no type for an output")
    if info.dtype == object:
        shape = _shape(value)
        strings = np.empty(shape, object)
        strings.reshape(-1)[:] = [_bytes(item) for item in _leaves(value, len(shape))]
        return strings
    written = np.asarray(value)
    if written.size and written.dtype.kind not in _WRITTEN_AS[info.dtype.kind]:
        raise ValueError(f"an output of {info.dtype} is written as {written.dtype}")
    return np.array(value, info.dtype)


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        return ()
    return (len(value), *(_shape(value[0]) if value else ()))


def _leaves(value: Any, depth: int) -> list[Any]:
    if not depth:
        return [value]
    if not isinstance(value, list):
        raise ValueError("rows of strings are not alike")
    return [leaf for item in value for leaf in _leaves(item, depth - 1)]


def _bytes(item: dict[str, str] | str) -> bytes:
    if isinstance(item, dict):
        return base64.b64decode(item["b64"])
    return item.encode("utf-8", "surrogateescape")
