"""Record files: what TensorFlow writes is read, what is written TensorFlow reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import tensorflow as tf
from exported_models import v1

from serving.core.errors import DataLoss
from serving.record_file import RecordReader, framed

RECORDS = [b"hello", b"", b"world!", bytes(range(256)) * 300]


def read(path: Path) -> list[bytes]:
    with path.open("rb") as file:
        return list(RecordReader(file))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that TensorFlow wrote."""
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        for record in RECORDS:
            writer.write(record)
    return tmp_path / "records"


def test_what_tensorflow_writes_is_read(path: Path):
    assert read(path) == RECORDS


def test_what_is_written_is_what_tensorflow_writes_and_reads(path: Path, tmp_path: Path):
    own = tmp_path / "own"
    own.write_bytes(b"".join(framed(record) for record in RECORDS))
    assert own.read_bytes() == path.read_bytes()
    assert [bytes(record) for record in v1.io.tf_record_iterator(str(own))] == RECORDS


def outcome_of_tensorflow(path: Path) -> str:
    try:
        return str(list(map(bytes, v1.io.tf_record_iterator(str(path)))))
    except tf.errors.DataLossError as error:
        return error.message


def outcome(path: Path) -> str:
    try:
        return str(read(path))
    except DataLoss as error:
        return error.message


WRITTEN = framed(b"hello") + framed(b"world!")
BROKEN = {
    "empty": b"",
    "no record": b"x" * 40,
    "shorter than a header": b"xyz",
    "cut in the last checksum": WRITTEN[:-1],
    "cut in the data": WRITTEN[:35],
    "cut behind a header": WRITTEN[:33],
    "cut in a header": WRITTEN[:25],
    "other data": WRITTEN[:12] + b"H" + WRITTEN[13:],
    "another length": b"\x06" + WRITTEN[1:],
    "something behind": WRITTEN[:21] + b"neither length nor checksum",
    "another last checksum": WRITTEN[:-1] + b"?",
}


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
def test_a_broken_file_is_judged_in_tensorflows_words(data: bytes, tmp_path: Path):
    path = tmp_path / "broken"
    path.write_bytes(data)
    assert outcome(path) == outcome_of_tensorflow(path)


def test_a_record_that_claims_to_be_huge_takes_no_memory(tmp_path: Path):
    """Its length and the checksum of that are right; the data are not there."""
    huge = (1 << 60).to_bytes(8, "little")
    path = tmp_path / "huge"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(huge)
    checksum = path.read_bytes()[-4:]  # the checksum of eight bytes, here used as a length's
    path.write_bytes(huge + checksum)
    with pytest.raises(DataLoss, match="truncated record at 0"):
        read(path)


def test_reading_goes_on_where_it_stood_when_the_file_has_grown(tmp_path: Path):
    path = tmp_path / "growing"
    path.write_bytes(WRITTEN[:-1])
    with path.open("rb") as file:
        reader = RecordReader(file)
        records = iter(reader)
        assert next(records) == b"hello"
        with pytest.raises(DataLoss):
            next(records)
        path.write_bytes(WRITTEN)
        assert list(reader) == [b"world!"]
        assert reader.position == len(WRITTEN)
