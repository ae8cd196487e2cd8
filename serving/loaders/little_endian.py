"""Numbers and arrays out of the front of some bytes, none of which are read twice."""

from __future__ import annotations

import struct

import numpy as np

from serving.core.errors import InvalidArgument


class LittleEndianReader:
    """Reads what C++ programs have written of their memory.

    Arrays are read-only views of the content, so that no number in it says how much memory is
    taken. Every method raises InvalidArgument where the content ends too early. Not thread-safe.
    """

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._position = 0

    @property
    def left(self) -> int:
        """The number of bytes that have not been read."""
        return len(self._content) - self._position

    def number(self, form: str) -> int:
        """The next whole number, in a format of :mod:`struct`."""
        (value,) = struct.unpack(f"<{form}", self.take(struct.calcsize(f"<{form}")))
        return int(value)

    def numbers(self, form: str, count: int) -> tuple[int, ...]:
        return tuple(self.number(form) for _ in range(count))

    def array(self, dtype: np.dtype, count: int) -> np.ndarray:
        """``count`` elements, of a type that says its byte order."""
        return np.frombuffer(self.take(count * dtype.itemsize), dtype)

    def count(self, smallest: int) -> int:
        """How many things follow, a number of 64 bits, where each takes so many bytes at least."""
        count = self.number("Q")
        if count > self.left // smallest:
            raise InvalidArgument("it ends too early")
        return count

    def text(self) -> str:
        """UTF-8 after its length of 64 bits. Raises InvalidArgument for other bytes as well."""
        try:
            return bytes(self.take(self.number("Q"))).decode()
        except UnicodeDecodeError:
            raise InvalidArgument("a name is not UTF-8") from None

    def take(self, size: int) -> memoryview:
        if not 0 <= size <= self.left:
            raise InvalidArgument("it ends too early")
        self._position += size
        return memoryview(self._content)[self._position - size : self._position]
