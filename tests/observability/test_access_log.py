"""The access log: one line for each call, wherever it goes."""

import io
import json
import shutil
import threading

import pytest
from observed_calls import HTTP, PREDICT, ended_call
from waiting import await_

from serving.core.errors import InvalidArgument
from serving.observability.access_log import AccessLog


def lines_of(path, *, as_json=False, calls=(), **options):
    log = AccessLog(str(path), as_json=as_json, **options)
    log.start()
    for call in calls:
        call(log)
    log.stop()
    return path.read_text().splitlines()


def a_call(log):
    ended_call(
        log,
        ("x-request-id", "mine"),
        model_name="half",
        version=3,
        signature_name="serving_default",
        request_bytes=20,
        response_bytes=30,
    )


def test_a_text_line_is_the_time_and_what_is_known(tmp_path):
    assert lines_of(tmp_path / "access.log", calls=[a_call]) == [
        "2023-11-14T22:13:20.000000Z peer=127.0.0.1:5000 protocol=gRPC "
        f"method={PREDICT} model=half version=3 signature=serving_default code=OK "
        "duration_us=1500 bytes_in=20 bytes_out=30 request_id=mine"
    ]


def test_a_json_line_is_the_same_as_an_object(tmp_path):
    (line,) = lines_of(tmp_path / "access.log", as_json=True, calls=[a_call], worker="worker 1")

    assert json.loads(line) == {
        "time": "2023-11-14T22:13:20.000000Z",
        "peer": "127.0.0.1:5000",
        "protocol": "gRPC",
        "method": PREDICT,
        "model": "half",
        "version": 3,
        "signature": "serving_default",
        "code": "OK",
        "duration_us": 1500,
        "bytes_in": 20,
        "bytes_out": 30,
        "request_id": "mine",
        "worker": "worker 1",
    }


def test_a_rest_call_has_its_path_and_status(tmp_path):
    (line,) = lines_of(
        tmp_path / "access.log",
        as_json=True,
        calls=[lambda log: ended_call(log, arrival=HTTP, code="404")],
    )

    told = json.loads(line)
    assert (told["protocol"], told["method"], told["path"]) == (
        "HTTP",
        "POST",
        "/v1/models/m:predict",
    )
    assert told["code"] == "404"


@pytest.mark.parametrize("as_json", [False, True])
def test_no_name_that_a_client_chooses_makes_a_second_line(tmp_path, as_json):
    name = 'm\n2023 code=OK "'
    (line,) = lines_of(
        tmp_path / "access.log",
        as_json=as_json,
        calls=[lambda log: ended_call(log, model_name=name)],
    )

    assert r"m\n2023 code=OK \"" in line


def test_calls_that_come_faster_than_they_are_written_are_left_out_and_counted(tmp_path, caplog):
    log = AccessLog(str(tmp_path / "access.log"), as_json=False, most_waiting=2)
    for _ in range(5):  # nothing is written before the start
        a_call(log)
    log.start()
    log.stop()

    assert len((tmp_path / "access.log").read_text().splitlines()) == 2
    assert log.dropped == 3
    assert "the access log lacks 3 calls" in caplog.text


def test_standard_output_gets_the_same_lines(capsys):
    log = AccessLog("stdout", as_json=False)
    log.start()
    a_call(log)
    log.stop()

    assert "model=half" in capsys.readouterr().out


def test_a_file_that_can_not_be_written_ends_the_start_with_its_name(tmp_path):
    with pytest.raises(InvalidArgument) as told:
        AccessLog(str(tmp_path / "no" / "access.log"), as_json=False).start()

    assert told.value.message == (
        f"access_log: can not write to {tmp_path}/no/access.log: No such file or directory"
    )


def test_a_file_that_is_gone_for_good_is_told_once_and_harms_no_call(tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "access.log"), as_json=False)
    log.start()
    shutil.rmtree(folder)
    for _ in range(3):
        log._write(["a line"])
    a_call(log)
    log.stop()

    assert caplog.text.count("can not write") == 1
    assert "the access log lacks 4 calls: they could not be written" in caplog.text
    assert log.lost == 4


def test_how_many_lines_a_full_disk_took_is_told_when_it_takes_them_again(tmp_path, caplog):
    folder = tmp_path / "logs"
    folder.mkdir()
    log = AccessLog(str(folder / "access.log"), as_json=False)
    for _ in range(2):
        a_call(log)
    log._out.open()
    shutil.rmtree(folder)
    log._write(["a line", "another"])
    log._tell_what_lacks(is_last=False)
    assert "lacks" not in caplog.text
    folder.mkdir()
    log.start()
    log.stop()

    assert len((folder / "access.log").read_text().splitlines()) == 2
    assert caplog.text.count("the access log lacks 2 calls: they could not be written") == 1


def test_standard_output_that_is_closed_is_told_once_and_ends_nothing(monkeypatch, caplog):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr("sys.stdout", closed)
    log = AccessLog("stdout", as_json=False)
    log.start()
    for _ in range(3):
        a_call(log)
    log.stop()

    assert caplog.text.count("can not write to stdout: I/O operation on closed file") == 1
    assert "the access log lacks 3 calls" in caplog.text


def test_a_call_that_has_no_line_keeps_no_later_one_back(tmp_path, caplog):
    log = AccessLog(str(tmp_path / "access.log"), as_json=True)
    log._write_lines_of = broken_once(log._write_lines_of)
    log.start()
    a_call(log)
    await_(lambda: "lines of the access log are lost" in caplog.text)
    a_call(log)
    log.stop()

    assert len((tmp_path / "access.log").read_text().splitlines()) == 1


def test_a_stop_does_not_wait_for_a_disk_that_hangs(tmp_path, caplog):
    reached, go_on = threading.Event(), threading.Event()

    def hang(_calls):
        reached.set()
        go_on.wait(60)

    log = AccessLog(str(tmp_path / "access.log"), as_json=False, most_waiting=1)
    log._write_lines_of = hang
    log.start()
    a_call(log)
    assert reached.wait(60)
    a_call(log)  # fills the queue
    log.stop(0.01)
    assert "does not end in time: about 1 lines are lost" in caplog.text
    go_on.set()
    log.stop()


def broken_once(write):
    """The first time it raises what nobody expects."""
    failures = [LookupError("a defect")]

    def broken(calls):
        if failures:
            raise failures.pop()
        write(calls)

    return broken
