"""Arrays as numpy stores them, .npy and .npz, read from bytes that nobody vouches for."""

from __future__ import annotations

import ast
import io
import math
import re
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np

from serving.apis.tensorflow_serving.rest.body import too_large
from serving.core.errors import InvalidArgument

_MAGIC = b"\x93NUMPY"
_LENGTH_FORMATS = {b"\x01\x00": "<H", b"\x02\x00": "<I", b"\x03\x00": "<I"}
_MOST_HEADER_BYTES = 10_000  # as numpy has it: what parses it is not made for more
_KEYS = {"descr", "fortran_order", "shape"}
_MOST_DIMENSIONS = 32
_MOST_BYTES = 2**62
# Nothing else gets to numpy: it reads a language of its own, and some of it ends the process.
_DESCR = re.compile(r"[<>|=]?(?:b1|\?|[iu][1248]|f[248]|c(?:8|16)|[SUV][0-9]{1,9})")

# What zipfile lets through for archives that are broken, encrypted or of an unknown kind.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    OverflowError,
    RuntimeError,
    ValueError,
)
_CHARACTER_BYTES = 4
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def read_npy(data: bytes) -> np.ndarray:
    """The one array of a .npy file; shares the memory of ``data``.

    Numbers, booleans, fixed-length strings and bare bytes (dtype V) only: nothing is unpickled.
    Raises InvalidArgument where there is anything else, or not the bytes that the header promises.
    """
    form = _LENGTH_FORMATS.get(data[6:8]) if data.startswith(_MAGIC) else None
    if form is None:
        raise InvalidArgument("not in the .npy format, versions 1 to 3")
    begin = 8 + struct.calcsize(form)
    if len(data) < begin:
        raise InvalidArgument("the .npy header is cut short")
    (length,) = struct.unpack(form, data[8:begin])
    end = begin + length
    if length > _MOST_HEADER_BYTES or len(data) < end:
        raise InvalidArgument("the .npy header is cut short, or too long")
    dtype, is_fortran, shape = _header(data[begin:end])
    needed = math.prod(shape) * dtype.itemsize
    if len(data) - end != needed:
        raise InvalidArgument(
            f"the .npy header promises {needed} bytes of {dtype.str}{list(shape)}, "
            f"but {len(data) - end} follow"
        )
    if dtype.itemsize == 0:  # empty strings, which take no bytes
        return np.zeros(shape, dtype)
    flat = np.frombuffer(data, dtype, offset=end) if needed else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if is_fortran else "C")


def _header(raw: bytes) -> tuple[np.dtype, bool, tuple[int, ...]]:
    try:
        header = ast.literal_eval(raw.decode("utf-8").strip())
        if not isinstance(header, dict) or header.keys() != _KEYS:
            raise InvalidArgument("the .npy header must have descr, fortran_order and shape")
        descr, shape = header["descr"], header["shape"]
        is_known = isinstance(descr, str) and _DESCR.fullmatch(descr)
        dtype = np.dtype(descr) if is_known else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        raise InvalidArgument("the .npy header can not be read") from None
    if dtype is None:
        raise InvalidArgument("the .npy dtype must be of numbers, booleans or fixed-length strings")
    sizes = shape if isinstance(shape, tuple) else ()
    if shape != sizes or not all(type(size) is int and size >= 0 for size in sizes):
        raise InvalidArgument("the .npy shape must be a tuple of sizes")
    # Even of an array without elements numpy multiplies the sizes that are not 0, and where strings
    # are empty it makes them one character long.
    most = len(raw) if dtype.itemsize == 0 and 0 not in sizes else _MOST_BYTES
    needed = math.prod(size or 1 for size in sizes) * (dtype.itemsize or _CHARACTER_BYTES)
    if len(sizes) > _MOST_DIMENSIONS or needed > most:
        raise InvalidArgument("the .npy shape has too many dimensions or elements")
    return dtype, bool(header["fortran_order"]), sizes


def read_npz(data: bytes, max_bytes: int) -> dict[str, np.ndarray]:
    """The arrays of an .npz archive by name, stored or deflated.

    Raises InvalidArgument for anything else, and RequestTooLarge where more than ``max_bytes``
    come out of it.
    """
    try:
        members = _members(data, max_bytes)
    except _ZIP_ERRORS:
        raise InvalidArgument("not an .npz archive, or a broken one") from None
    arrays: dict[str, np.ndarray] = {}
    for name, content in members.items():
        try:
            arrays[name] = read_npy(content)
        except InvalidArgument as error:
            raise InvalidArgument(f"array {name}: {error.message}") from None
    return arrays


def _members(data: bytes, max_bytes: int) -> dict[str, bytes]:
    members: dict[str, bytes] = {}
    room = max_bytes
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if name in members or info.compress_type not in _ZIP_METHODS:
                raise InvalidArgument(f"array {name}: there twice, or compressed in another way")
            with archive.open(info) as member:
                members[name] = member.read(room + 1)
            room -= len(members[name])
            if room < 0:
                raise too_large(max_bytes)
    return members


def npy_bytes(array: np.ndarray) -> bytes:
    """A .npy file that holds the array, of numbers, booleans, fixed-length strings or bytes."""
    file = io.BytesIO()
    np.lib.format.write_array(file, array, allow_pickle=False)
    return file.getvalue()


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """An .npz archive that holds the arrays, as they are."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            archive.writestr(f"{name}.npy", npy_bytes(array))
    return file.getvalue()
