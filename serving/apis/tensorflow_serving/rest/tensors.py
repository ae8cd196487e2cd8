"""Predict with whole tensors as numpy stores them, for clients that find JSON too slow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from serving.apis.tensorflow_serving.rest import json_writer
from serving.apis.tensorflow_serving.rest.npy import npy_bytes, npz_bytes, read_npy, read_npz
from serving.apis.tensorflow_serving.rest.predict import Writer, inputs_of, run
from serving.apis.tensorflow_serving.rest.verb import Answer, Content, Headers
from serving.core.dtypes import DType, dtype_of, numpy_dtype
from serving.core.errors import InvalidArgument
from serving.core.servable import RunOptions, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.inference.predict import PredictRequest

NPY = b"application/x-npy"
NPZ = b"application/x-npz"
SIGNATURE_NAME = b"x-signature-name"
"""The header that names the signature, for which these formats have no place."""

Inputs = Mapping[str, np.ndarray] | np.ndarray
"""Arrays by alias, or the array of the only input."""

_MOST_PADDING_BYTES = 64 * 2**20
_LAST_CHARACTER = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)


def media_type_of(headers: Headers) -> bytes:
    """The one of these formats that the request is in; empty where it is in none."""
    content_type = headers.get(b"content-type", b"").lower()
    if b"application/x-np" not in content_type:  # as with almost every request
        return b""
    sent = content_type.partition(b";")[0].strip()
    return sent if sent in (NPY, NPZ) else b""


def wanted_writer(headers: Headers, sent: bytes) -> Writer | None:
    """What writes the answer as the request's Accept header wants it, None for as JSON is asked.

    The first type in it that is known counts; where there is none, or a wildcard comes first, the
    answer is in the format that was sent.
    """
    accept = headers.get(b"accept", b"*/*")
    for wanted in () if accept == b"*/*" else _accepted(accept):
        if wanted in (NPY, NPZ):
            return _write_npz if wanted == NPZ else _write_npy
        if wanted == b"application/json":
            return _write_json if sent else None
        if wanted in (b"*/*", b"application/*"):
            break
    return _write_alike if sent == NPY else _write_npz if sent else None


def _accepted(accept: bytes) -> Iterator[bytes]:
    for item in accept.lower().split(b","):
        media_type, _, parameters = item.partition(b";")
        if parameters.strip() not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000"):
            yield media_type.strip()


def read(body: bytes, media_type: bytes, max_bytes: int) -> Inputs:
    """The arrays of a request's body. Raises InvalidArgument or RequestTooLarge."""
    try:
        return read_npy(body) if media_type == NPY else read_npz(body, max_bytes)
    except InvalidArgument as error:
        raise InvalidArgument(f"The body is no {media_type.decode()}: {error.message}") from None


@dataclass(frozen=True, slots=True)
class TensorCall:
    """Runs a signature on what was sent, a :data:`Call`: an empty name is the default's."""

    signature_name: str
    sent: Inputs
    write: Writer
    check_method_name: bool

    def __call__(self, handle: ServableHandle, options: RunOptions, answer: Answer) -> None:
        """Raises InvalidArgument where the signature and what was sent do not fit."""
        wanted = inputs_of(handle, self.signature_name)
        inputs = {
            alias: _fitting(alias, array, wanted[alias]) if alias in wanted else array
            for alias, array in _by_alias(self.sent, wanted).items()
        }
        request = PredictRequest(self.signature_name, inputs)
        check = self.check_method_name
        run(handle, request, options, answer, write=self.write, check_method_name=check)


def _by_alias(sent: Inputs, wanted: Mapping[str, TensorInfo]) -> Mapping[str, np.ndarray]:
    if not isinstance(sent, np.ndarray):
        return sent
    if len(wanted) > 1:
        raise InvalidArgument(
            f"One array is not enough for the inputs {','.join(sorted(wanted))}: send "
            f"{NPZ.decode()}"
        )
    return dict.fromkeys(wanted, sent)


def _fitting(alias: str, array: np.ndarray, info: TensorInfo) -> np.ndarray:
    """The array with the signature's element type; raises InvalidArgument if it is another's."""
    _check_shape(alias, array.shape, info.shape)
    kind = array.dtype.kind
    if info.dtype is DType.STRING and kind in "SU":
        return (_encoded(alias, array) if kind == "U" else array).astype(np.object_)
    stored = _stored_dtype(info.dtype)
    if info.dtype is DType.STRING or array.dtype.newbyteorder("=") != stored:
        raise InvalidArgument(
            f"Input {alias} is of numpy's type {array.dtype.name}, but the signature has "
            f"{info.dtype.label}"
        )
    return np.ascontiguousarray(array, stored).reshape(array.shape).view(numpy_dtype(info.dtype))


def _encoded(alias: str, array: np.ndarray) -> np.ndarray:
    """Strings of characters as UTF-8; raises InvalidArgument where some are no characters."""
    points = np.frombuffer(array.tobytes(), np.dtype("u4").newbyteorder(array.dtype.byteorder))
    first, last = _SURROGATES
    if np.any((points > _LAST_CHARACTER) | ((points >= first) & (points <= last))):
        raise InvalidArgument(f"Input {alias} has strings with what is no character of Unicode")
    return np.char.encode(array, "utf-8")


def _check_shape(alias: str, shape: Sequence[int], wanted: Sequence[int | None] | None) -> None:
    if wanted is None:
        return
    fits = len(shape) == len(wanted) and all(
        size in (None, given) for size, given in zip(wanted, shape, strict=True)
    )
    if not fits:
        sizes = ",".join("?" if size is None else str(size) for size in wanted)
        given = ",".join(map(str, shape))
        raise InvalidArgument(
            f"Input {alias} has the shape [{given}], but the signature has [{sizes}]"
        )


def _stored_dtype(dtype: DType) -> np.dtype:
    """The type of numpy's own that a file has in the place of ``dtype``.

    Quantized types are stored as the integers they are made of, and those of ml_dtypes, which
    numpy alone does not know, as bare bytes.
    """
    native = numpy_dtype(dtype)
    if native.names:
        return native[0]
    return native if native.isbuiltin == 1 else np.dtype(f"V{native.itemsize}")


def _stored(alias: str, array: np.ndarray) -> np.ndarray:
    """An output as it can be stored; strings as long as the longest."""
    dtype = dtype_of(array)
    if dtype is not DType.STRING:
        return np.ascontiguousarray(array).reshape(array.shape).view(_stored_dtype(dtype))
    values = [item.encode() if isinstance(item, str) else item for item in array.ravel().tolist()]
    if any(value.endswith(b"\0") for value in values):
        raise InvalidArgument(
            f"Output {alias} has strings that end in zero bytes, which numpy's format loses: ask "
            "for application/json"
        )
    if len(values) * max(map(len, values), default=0) - sum(map(len, values)) > _MOST_PADDING_BYTES:
        raise InvalidArgument(
            f"Output {alias} has strings of too different lengths for numpy's format, which makes "
            "all as long as the longest: ask for application/json"
        )
    return np.array(values, np.bytes_).reshape(array.shape)


def _write_npy(outputs: Mapping[str, np.ndarray]) -> Content:
    if len(outputs) != 1:
        raise InvalidArgument(
            f"{NPY.decode()} holds one array, but the outputs are {','.join(sorted(outputs))}: "
            f"accept {NPZ.decode()}"
        )
    ((alias, array),) = outputs.items()
    return Content(npy_bytes(_stored(alias, array)), NPY)


def _write_npz(outputs: Mapping[str, np.ndarray]) -> Content:
    arrays = {alias: _stored(alias, array) for alias, array in sorted(outputs.items())}
    return Content(npz_bytes(arrays), NPZ)


def _write_alike(outputs: Mapping[str, np.ndarray]) -> Content:
    """One array where there is one output, and an archive where there are several."""
    return (_write_npy if len(outputs) == 1 else _write_npz)(outputs)


def _write_json(outputs: Mapping[str, np.ndarray]) -> Content:
    return Content(json_writer.outputs(outputs))
