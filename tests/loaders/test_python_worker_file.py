"""``worker.json``: what it may say, and what is said of the rest."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from python_models import DOUBLES, ask, closing, refusal, serve, version

from serving.core.errors import FailedPrecondition, InvalidArgument

__all__ = ["closing"]


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path):
    raised = refusal(version(tmp_path, DOUBLES, interpreter="/no/such/python"))
    assert isinstance(raised, FailedPrecondition)
    assert raised.message.startswith("worker.json: interpreter can not be started: No such file")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "worker.json is no JSON"),
        ("[]", "it must be an object, which may have interpreter, load_timeout"),
        ('{"retries": 1}', "it must be an object"),
        ('{"interpreter": "python"}', "interpreter must be an absolute path"),
        ('{"interpreter": 3}', "interpreter must be an absolute path"),
        (
            '{"run_timeout_seconds": 0}',
            "run_timeout_seconds must be a number above 0, at most 604800",
        ),
        (
            '{"run_timeout_seconds": NaN}',
            "run_timeout_seconds must be a number above 0, at most 604800",
        ),
        (
            '{"load_timeout_seconds": "1"}',
            "load_timeout_seconds must be a number above 0, at most 604800",
        ),
        (
            '{"load_timeout_seconds": true}',
            "load_timeout_seconds must be a number above 0, at most 604800",
        ),
        ('{"run_timeout_seconds": 1e10}', "run_timeout_seconds must be a number above 0, at most"),
        ('{"load_timeout_seconds": 604801}', "load_timeout_seconds must be a number above 0, at"),
        (f'{{"load_timeout_seconds": 1{"0" * 400}}}', "load_timeout_seconds must be a number"),
        ('{"memory_limit_bytes": 1.5}', "memory_limit_bytes must be an integer of at least 0"),
        ('{"memory_limit_bytes": -1}', "memory_limit_bytes must be an integer of at least 0"),
    ],
)
def test_a_worker_file_says_what_is_documented_or_what_is_wrong(
    tmp_path: Path, text: str, says: str
):
    path = version(tmp_path, DOUBLES)
    (tmp_path / "worker.json").write_text(text)
    raised = refusal(path)
    assert isinstance(raised, InvalidArgument)
    assert says in raised.message


def test_the_longest_timeouts_can_be_waited_for(tmp_path: Path, closing: ExitStack):
    week = 7 * 24 * 3600
    path = version(tmp_path, DOUBLES, load_timeout_seconds=week, run_timeout_seconds=week)
    assert ask(serve(closing, path), 1) == [2]
