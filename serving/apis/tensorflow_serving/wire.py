"""Numbers and lengths in protobuf's wire format."""

from __future__ import annotations

import numpy as np

MOST_VARINT_BYTES = 10
_ALL_BITS = (1 << 64) - 1
_FEW_BYTES = 32
_SHORT = [bytes([number]) for number in range(0x80)]


def varint(number: int) -> bytes:
    """A number of at most 64 bits that is not negative, in as few bytes as it takes."""
    if number < 0x80:
        return _SHORT[number]
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def read_varint(data: bytes, position: int) -> tuple[int, int]:
    """A number below 2**63 and the position behind it.

    Raises IndexError where the data end first, ValueError for a number that is larger or takes
    more bytes than it needs.
    """
    byte = data[position]
    position += 1
    if byte < 0x80:
        return byte, position
    number = byte & 0x7F
    for shift in range(7, 63, 7):
        byte = data[position]
        position += 1
        if byte < 0x80:
            if not byte:
                raise ValueError("a varint has bytes that it does not need")
            return number | byte << shift, position
        number |= (byte & 0x7F) << shift
    raise ValueError("a varint has more than 63 bits")


def read_span(data: bytes, position: int, end: int) -> tuple[int, int]:
    """The first and the last position of what a length at ``position`` announces.

    Raises ValueError where that would reach beyond ``end``, and what :func:`read_varint` raises.
    """
    length, start = read_varint(data, position)
    stop = start + length
    if stop > end:
        raise ValueError("a length reaches beyond its message")
    return start, stop


def read_varints(data: bytes, start: int, stop: int, count: int) -> np.ndarray:
    """``count`` packed varints that fill ``data[start:stop]``, as an array of uint64.

    Negative numbers come as their two's complement. Raises ValueError when there are more or
    fewer, or one that no writer would write; and for more than 32 bytes with numbers above 127,
    which protobuf reads faster than numpy can.
    """
    if stop - start <= _FEW_BYTES:
        numbers = np.array(_read_few(data[start:stop]), np.uint64)
        if len(numbers) == count:
            return numbers
    elif stop - start == count:
        encoded = np.frombuffer(data, np.uint8, count, start)
        if encoded.max() < 0x80:
            return encoded.astype(np.uint64)
    raise ValueError("not so many varints, or large ones")


def _read_few(encoded: bytes) -> list[int]:
    numbers = []
    number = shift = 0
    for byte in encoded:
        number |= (byte & 0x7F) << shift
        if byte >= 0x80:
            shift += 7
            continue
        if number > _ALL_BITS or shift >= 7 * MOST_VARINT_BYTES:
            raise ValueError("a varint has more than 64 bits")
        numbers.append(number)
        number = shift = 0
    if shift:
        raise ValueError("a varint is cut off")
    return numbers
