"""The lines of the log, as text and as JSON."""

import json
import logging
import re
import subprocess
import sys

import pytest
from observed_calls import ended_call

from serving.core.errors import InvalidArgument
from serving.core.observed_call import calls_in_log, working_for
from serving.observability.log_lines import JsonLines, TextLines, set_up_logging


class Nobody:
    def began(self, call, metadata):
        """Nobody listens."""

    def ended(self, call):
        """Nobody listens."""


class Ids:
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    span_id = "00f067aa0ba902b7"


def record(message="loaded %s", *args, **more):
    logger = logging.getLogger("serving.part")
    made = logger.makeRecord("serving.part", logging.WARNING, "f", 1, message, args, None, **more)
    made.created = 1_700_000_000.25
    return made


@pytest.fixture
def call():
    call = ended_call(Nobody())
    call.request_id = "mine"
    return call


def json_line(made, worker=""):
    text = JsonLines(worker).format(made)
    assert "\n" not in text
    return json.loads(text)


def test_a_json_line_has_time_level_logger_and_message():
    line = json_line(record("loaded %s", "m:\n1"))

    assert line.pop("process") > 0
    assert line == {
        "time": "2023-11-14T22:13:20.250000Z",
        "level": "warning",
        "logger": "serving.part",
        "message": "loaded m:\n1",
    }


def test_a_json_line_names_the_worker_where_there_are_several():
    assert json_line(record("m"), "worker 1")["worker"] == "worker 1"


def test_a_json_line_has_the_exception_with_its_trace():
    try:
        raise RuntimeError("a defect")
    except RuntimeError as error:
        made = record("failed")
        made.exc_info = (type(error), error, error.__traceback__)

    exception = json_line(made)["exception"]
    assert exception.startswith("Traceback (most recent call last):")
    assert exception.endswith("RuntimeError: a defect")


def test_a_json_line_has_the_ids_of_the_call_that_its_thread_works_for(call):
    call.trace = Ids()
    with working_for(call):
        line = json_line(record("m"))

    assert line["request_id"] == "mine"
    assert (line["trace_id"], line["span_id"]) == (Ids.trace_id, Ids.span_id)


def test_a_line_about_several_calls_has_the_ids_of_all(call):
    extra = calls_in_log([call, None, call])

    assert json_line(record("m", extra=extra))["request_ids"] == ["mine", "mine"]
    assert (
        TextLines()
        .format(record("m", extra=extra))
        .endswith(": m [request_id=mine request_id=mine]")
    )


def test_a_text_line_is_as_ever_where_it_is_about_no_call():
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING serving\.part: loaded m:1",
        TextLines().format(record("loaded %s", "m:1")),
    )


def test_a_text_line_of_a_worker_has_its_process():
    assert re.search(
        r" WARNING \[\d+\] serving\.part: m$", TextLines("worker 1").format(record("m"))
    )


def test_a_text_line_has_the_id_of_the_call(call):
    with working_for(call):
        assert TextLines().format(record("m")).endswith(" serving.part: m [request_id=mine]")


@pytest.mark.parametrize(
    ("level", "log_format", "message"),
    [
        ("loud", "text", "log_level must be one of debug, info, warning, error, not 'loud'"),
        ("info", "xml", "log_format must be one of text, json, not 'xml'"),
    ],
)
def test_what_there_is_none_of_is_refused(level, log_format, message):
    with pytest.raises(InvalidArgument) as told:
        set_up_logging(level, log_format)

    assert told.value.message == message


@pytest.mark.parametrize(
    ("level", "logged"),
    [
        ("debug", ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ("info", ["INFO", "WARNING", "ERROR"]),
        ("error", ["ERROR"]),
    ],
)
def test_the_log_level_decides_what_is_logged(level: str, logged: list[str]) -> None:
    """In a process of its own: this one's logger is the test runner's."""
    program = (
        "import logging, sys; from serving.observability.log_lines import set_up_logging\n"
        "set_up_logging(sys.argv[1], 'text')\n"
        "for level in ('debug', 'info', 'warning', 'error'): getattr(logging, level)('said')"
    )
    command = [sys.executable, "-c", program, level]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    assert re.findall("DEBUG|INFO|WARNING|ERROR", ran.stderr) == logged
