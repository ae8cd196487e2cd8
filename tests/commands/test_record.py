"""``model_server record``: what is written, and when there is nothing to write."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import prediction_logs as logs
import pytest
from exported_models import v1
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.cli import main as model_server
from serving.commands.record import main
from serving.record_file import framed
from serving.testing import FakeClock


def of(*sizes: int, name: str = "m") -> PredictionLog:
    return logs.of_predict("", name, x=np.zeros(sizes, np.float32))


def write(path: Path, *calls: PredictionLog) -> None:
    path.write_bytes(b"".join(framed(call.SerializeToString()) for call in calls))


def read(path: Path) -> list[PredictionLog]:
    """By TensorFlow's own reader."""
    return list(map(PredictionLog.FromString, v1.io.tf_record_iterator(str(path))))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A request log's prefix."""
    write(tmp_path / "log-20260101T000000Z-h-1-1.tfrecord", of(1), of(2), of(1))
    return tmp_path / "log"


def test_requests_are_written_as_tensorflow_reads_them(log: Path, tmp_path: Path, capsys):
    output = tmp_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    assert model_server(["record", f"--request_log={log}", f"--output={output}"]) == 0
    assert read(output) == [of(1), of(2)]
    assert [path.name for path in output.parent.iterdir()] == [output.name]
    assert capsys.readouterr().out == f"{output}: 2 requests out of 3 calls\n"


def test_no_more_are_written_than_wanted(log: Path, tmp_path: Path):
    output = tmp_path / "out"
    main([f"--request_log={log}", f"--output={output}", "--max_records=1"])
    assert read(output) == [of(1)]


def test_more_than_a_server_takes_are_not_written(log: Path, tmp_path: Path, capsys):
    with pytest.raises(SystemExit) as ended:
        main([f"--request_log={log}", f"--output={tmp_path}/out", "--max_records=1001"])
    assert ended.value.code == 2
    assert "1001 is above 1000" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_name=n"], "NOT_FOUND: there are no calls of model n in {log}"),
        (["--request_log={log}s"], "NOT_FOUND: {log}s is no file, and no request log has this"),
        (
            ["--output={log}-20260101T000000Z-h-1-1.tfrecord/out"],
            "{log}-20260101T000000Z-h-1-1.tfrecord: ",
        ),
    ],
)
def test_where_nothing_can_be_written_it_is_said_why(
    arguments: list[str], message: str, log: Path, tmp_path: Path, capsys
):
    given = [argument.format(log=log) for argument in arguments]
    assert main([f"--request_log={log}", f"--output={tmp_path}/out", *given]) == 2
    assert capsys.readouterr().err.startswith(f"model_server record: {message.format(log=log)}")
    assert not (tmp_path / "out").exists()


def test_calls_that_come_while_it_waits_are_taken(tmp_path: Path):
    """Also those in a log that begins only then."""
    clock, output = FakeClock(), tmp_path / "out"
    arguments = [f"--request_log={tmp_path}/log", f"--output={output}", "--follow_seconds=10"]
    thread = threading.Thread(target=main, args=(arguments, clock))
    thread.start()
    clock.await_waiters()
    write(tmp_path / "log-20260101T000000Z-h-1-1.tfrecord", of(1))
    clock.advance(1)
    clock.await_waiters()
    write(tmp_path / "log-20260101T000000Z-h-1-2.tfrecord", of(2))
    assert not output.exists()
    clock.advance(9)
    thread.join(60)
    assert read(output) == [of(1), of(2)]
