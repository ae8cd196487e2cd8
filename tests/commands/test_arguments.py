"""What commands have in common: an error is one line."""

from __future__ import annotations

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
