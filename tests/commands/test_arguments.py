"""What commands have in common: an error is one line."""

from __future__ import annotations

import signal

import pytest

from serving.commands.arguments import FAILURE, told


def test_an_error_of_the_system_is_told_with_what_there_is(capsys):
    """Some have a file, some only a text."""
    for error, line in (
        (OSError(28, "No space left on device", "/models/m"), "/models/m: No space left on device"),
        (OSError(28, "No space left on device"), "No space left on device"),
        (OSError("Cannot call rmtree on a symbolic link"), "Cannot call rmtree on a symbolic link"),
    ):

        def work(error: OSError = error) -> int:
            raise error

        assert told("convert", work) == FAILURE
        assert capsys.readouterr().err == f"model_server convert: {line}\n"


def test_what_sigterm_ends_cleans_up_first():
    """As `docker stop` and `timeout` send it."""
    before = signal.getsignal(signal.SIGTERM)
    cleaned = []

    def work() -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        finally:
            cleaned.append("up")
        return 0

    with pytest.raises(SystemExit) as ended:
        told("convert", work)
    assert ended.value.code == 128 + signal.SIGTERM
    assert cleaned == ["up"]
    assert signal.getsignal(signal.SIGTERM) is before
