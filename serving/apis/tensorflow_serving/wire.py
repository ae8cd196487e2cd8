"""Numbers and lengths in protobuf's wire format, one at a time or a whole array at once."""

from __future__ import annotations

import numpy as np

MOST_VARINT_BYTES = 10
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
    fewer, or one that no writer would write.
    """
    encoded = np.frombuffer(data, np.uint8, stop - start, start)
    if stop - start == count:
        if encoded.max(initial=0) >= 0x80:
            raise ValueError("varints are cut off")
        return encoded.astype(np.uint64)
    lasts = np.flatnonzero(encoded < 0x80)
    if len(lasts) != count or lasts[-1] != len(encoded) - 1:
        raise ValueError("not the number of varints that was expected")
    firsts = np.empty_like(lasts)
    firsts[0] = 0
    firsts[1:] = lasts[:-1] + 1
    sizes = lasts - firsts + 1
    longest = int(sizes.max())
    if longest > MOST_VARINT_BYTES:
        raise ValueError("a varint is too long")
    if longest == MOST_VARINT_BYTES and encoded[lasts[sizes == longest]].max() > 1:
        raise ValueError("a varint has more than 64 bits")
    numbers = (encoded[firsts] & 0x7F).astype(np.uint64)
    for index in range(1, longest):
        longer = np.flatnonzero(sizes > index)
        bits = (encoded[firsts[longer] + index] & 0x7F).astype(np.uint64)
        numbers[longer] |= bits << np.uint64(7 * index)
    return numbers


def write_varints(numbers: np.ndarray) -> bytes:
    """The integers of a one-dimensional array as packed varints; negative ones take ten bytes."""
    if numbers.dtype.kind == "u":
        words = numbers.astype(np.uint64, copy=False)
    else:
        words = numbers.astype(np.int64, copy=False).view(np.uint64)
    largest = int(words.max(initial=0))
    if largest < 0x80:
        return words.astype(np.uint8).tobytes()
    sizes = np.ones(len(words), np.intp)
    for bits in range(7, largest.bit_length(), 7):
        sizes += words >= np.uint64(1 << bits)
    firsts = np.cumsum(sizes) - sizes
    encoded = np.empty(int(sizes.sum()), np.uint8)
    for index in range(int(sizes.max())):
        these = np.flatnonzero(sizes > index)
        more = (sizes[these] > index + 1).astype(np.uint8) << np.uint8(7)
        group = words[these] >> np.uint64(7 * index) & np.uint64(0x7F)
        encoded[firsts[these] + index] = group.astype(np.uint8) | more
    return encoded.tobytes()
