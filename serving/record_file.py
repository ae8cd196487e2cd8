"""Files of records in TensorFlow's TFRecord format, uncompressed.

A record is its length (8 bytes, the lowest first), the masked CRC32C of that, the data, and their
masked CRC32C (4 bytes each).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

import google_crc32c

from serving.core.errors import DataLoss

_HEADER = struct.Struct("<QI")
_LENGTH = struct.Struct("<Q")
_CHECKSUM = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_ALL_BITS = 0xFFFFFFFF


def framed(record: bytes) -> bytes:
    """The record as it stands in a file."""
    length = _LENGTH.pack(len(record))
    checksum = _CHECKSUM.pack(_masked_crc32c(record))
    return b"".join((length, _CHECKSUM.pack(_masked_crc32c(length)), record, checksum))


class RecordReader:
    """Iterates over the records of a file that is open for reading; not thread-safe.

    Raises DataLoss, in TensorFlow's words, for what is no record and for one that is cut off.
    Like there, a file may end within the twelve bytes before a record's data. After either, once
    there is more, iterating again goes on at ``position``: behind the last whole record.
    """

    def __init__(self, file: BinaryIO, position: int = 0, *, may_be_cut: bool = False) -> None:
        """``position``: where the first record to read begins, in bytes.

        ``may_be_cut``: the file ends before a record that is cut off, as somebody may be writing.
        """
        self._file = file
        self._may_be_cut = may_be_cut
        self.position = position

    def __iter__(self) -> Iterator[bytes]:
        while (record := self._read()) is not None:
            yield record

    def _read(self) -> bytes | None:
        self._file.seek(self.position)
        header = self._file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return None
        length, checksum = _HEADER.unpack(header)
        if checksum != _masked_crc32c(header[: _LENGTH.size]):
            hint = "" if self.position else " (Is this even a TFRecord file?)"
            raise DataLoss(f"corrupted record at {self.position}{hint}")
        data_position = self.position + _HEADER.size
        following = data_position + length + _CHECKSUM.size
        # Compared before memory is taken: a length may say anything.
        if following > os.fstat(self._file.fileno()).st_size:
            if self._may_be_cut:
                return None
            raise DataLoss(
                f"truncated record at {self.position}' failed with Read less bytes than requested"
            )
        record = self._file.read(length)
        if _CHECKSUM.unpack(self._file.read(_CHECKSUM.size)) != (_masked_crc32c(record),):
            raise DataLoss(f"corrupted record at {data_position}")
        self.position = following
        return record


def _masked_crc32c(data: bytes) -> int:
    """Rotated and moved, because the checksum of data that hold checksums would say little."""
    checksum: int = google_crc32c.value(data)
    return ((checksum >> 15 | checksum << 17) + _MASK_DELTA) & _ALL_BITS
