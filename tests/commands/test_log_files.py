"""Request logs are read back in their order, also while they grow."""

from __future__ import annotations

import json
from pathlib import Path

import prediction_logs as logs
import pytest
import tensorflow as tf

from serving.commands.log_files import LogFiles
from serving.core.errors import DataLoss, InvalidArgument, NotFound
from serving.record_file import framed


def record(number: int) -> bytes:
    return framed(logs.of_predict(x=float(number)).SerializeToString())


def numbers(files: LogFiles) -> list[int]:
    return [int(tf.make_ndarray(log.predict_log.request.inputs["x"])) for log in files.read()]


def test_a_prefix_names_all_files_of_its_log_the_oldest_first(tmp_path: Path):
    (tmp_path / "m-20260102T000000Z-h-1-0.tfrecord").write_bytes(record(3))
    (tmp_path / "m-20260101T000000Z-h-1-1.tfrecord").write_bytes(record(1) + record(2))
    (tmp_path / "m-20260101T000000Z.unfinished").write_bytes(b"?")
    (tmp_path / "n-20260101T000000Z-h-1-1.tfrecord").write_bytes(record(4))
    for other in ("m-canary-20260101T000000Z-h-1-1", "m-1", "m-20260101T000000Z"):
        (tmp_path / f"{other}.tfrecord").write_bytes(record(5))
    assert numbers(LogFiles(str(tmp_path / "m"))) == [1, 2, 3]


def test_a_file_is_read_whatever_its_name(tmp_path: Path):
    path = logs.write_warm_up(tmp_path, logs.of_predict(x=5.0))
    assert numbers(LogFiles(str(path))) == [5]


def test_json_lines_are_read(tmp_path: Path):
    path = tmp_path / "m-20260101T000000Z-h-1-1.jsonl"
    line = {"predict_log": {"request": {"model_spec": {"name": "m"}}}}
    path.write_text(f"{json.dumps(line)}\n{json.dumps(line)}\n")
    found = list(LogFiles(str(tmp_path / "m")).read())
    assert [log.predict_log.request.model_spec.name for log in found] == ["m", "m"]


@pytest.mark.parametrize("suffix", ["tfrecord", "jsonl"])
def test_reading_again_finds_what_has_come_since(suffix: str, tmp_path: Path):
    whole = record(1) if suffix == "tfrecord" else b'{"predict_log": {}}\n'
    path = tmp_path / f"m-20260101T000000Z-h-1-1.{suffix}"
    files = LogFiles(str(tmp_path / "m"))
    path.write_bytes(whole + whole[:-1])
    assert len(list(files.read())) == 1
    path.write_bytes(whole + whole)
    (tmp_path / f"m-20260101T000000Z-h-1-2.{suffix}").write_bytes(whole)
    assert len(list(files.read())) == 2
    assert list(files.read()) == []


def test_a_file_that_is_deleted_meanwhile_is_passed_over(tmp_path: Path):
    for number in (1, 2, 3):
        (tmp_path / f"m-20260101T000000Z-h-1-{number}.tfrecord").write_bytes(record(number))
    found = []
    for log in LogFiles(str(tmp_path / "m")).read():
        found.append(log)
        (tmp_path / "m-20260101T000000Z-h-1-2.tfrecord").unlink(missing_ok=True)
    assert len(found) == 2


def test_nothing_there_is_said(tmp_path: Path):
    for name in ("m", "folder/m"):
        with pytest.raises(
            NotFound, match=f"{name} is no file, and no request log has this prefix"
        ):
            list(LogFiles(str(tmp_path / name)).read())


@pytest.mark.parametrize(
    ("name", "data", "error"),
    [
        ("m-20260101T000000Z-h-1-1.tfrecord", b"no record, but long enough", DataLoss),
        ("m-20260101T000000Z-h-1-1.tfrecord", framed(b"\xff\xff"), InvalidArgument),
        ("m-20260101T000000Z-h-1-1.jsonl", b"{no json}\n", InvalidArgument),
    ],
)
def test_what_is_no_log_is_refused_by_its_name(name: str, data: bytes, error: type, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(error, match=name):
        list(LogFiles(str(tmp_path / "m")).read())
