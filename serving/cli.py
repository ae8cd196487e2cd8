"""The command ``model_server``: read the command line, start the server, say what went wrong."""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from serving.config.command_line import CommandLine, help_text, parse_command_line, warnings
from serving.core.errors import InvalidArgument, ServingError
from serving.observability.log_lines import set_up_logging

log = logging.getLogger(__name__)

FAILURE = 255
"""The exit status of a server that could not start: upstream's -1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the server until it is told to stop, or a command; the process's exit status.

    ``argv`` lacks the program's name and defaults to the process's own arguments.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments and arguments[0] in COMMANDS:
        return COMMANDS[arguments[0]](arguments[1:])
    if argv is None:
        _leave_on_signals()
    try:
        flags = parse_command_line(arguments)
    except InvalidArgument as error:
        sys.stdout.write(f"{help_text()}\n{error.message}\n")
        return FAILURE
    if flags.help_wanted:
        # TensorFlow Serving exits with 255 here, a side effect of its parser: asking for help
        # is no failure, and scripts that ask whether the command works get the right answer.
        sys.stdout.write(help_text())
        return 0
    if flags["version"]:
        sys.stdout.write(_versions())
        return 0
    _report_unknown(flags)
    try:
        set_up_logging(flags["log_level"], flags["log_format"])
        return _run(flags)
    except ServingError as error:
        # One line, although the texts of TensorFlow may have several.
        text = str(error).replace("\n", " ")
        sys.stdout.write(f"Failed to start server. Error: {text}\n")
        # Also where the log goes: what collects that may never see standard output.
        log.error("Failed to start server: %s", text)
        return FAILURE


def _convert(arguments: Sequence[str]) -> int:
    from serving.commands.convert import main as convert  # noqa: PLC0415  # no server needs it

    return convert(arguments)


def _inspect(arguments: Sequence[str]) -> int:
    from serving.commands.inspect import main as inspect  # noqa: PLC0415  # as above

    return inspect(arguments)


def _record(arguments: Sequence[str]) -> int:
    from serving.commands.record import main as record  # noqa: PLC0415  # as above

    return record(arguments)


def _replay(arguments: Sequence[str]) -> int:
    from serving.commands.replay import main as replay  # noqa: PLC0415  # as above

    return replay(arguments)


COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = {
    "convert": _convert,
    "inspect": _inspect,
    "record": _record,
    "replay": _replay,
}
"""What the first argument may be where it is no flag, and what then happens with the others."""


def _run(flags: CommandLine) -> int:
    _warn_without_temporary_directory()
    # gRPC and numpy take their time to import, which --help and a mistyped flag need not wait for.
    from serving.config.options import server_options  # noqa: PLC0415

    options = server_options(flags)
    for warning in warnings(flags):
        log.warning("%s", warning)
    if options.num_workers > 1:
        from serving.workers.supervisor import supervise  # noqa: PLC0415  # as above

        return supervise(options, flags["log_level"])
    from serving.process import run  # noqa: PLC0415  # as above

    return run(options)


def _warn_without_temporary_directory() -> None:
    """Some platforms need one, TensorFlow for its import; others serve without."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        log.warning("%s, which some models need; TMPDIR can name another", error.strerror)


def _leave_on_signals() -> None:
    """Until the server has handlers of its own, there is nothing to finish.

    Without any, the first process of a container would ignore the signals.
    """
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _number, _frame: os._exit(0))


def _report_unknown(flags: CommandLine) -> None:
    """Name what is no flag, and go on: clusters pass flags of other versions of the server."""
    for argument in flags.unknown:
        sys.stdout.write(f"unknown argument: {argument}\n")
    if flags.unknown:
        sys.stdout.write("(--help lists the flags there are)\n")
        sys.stdout.flush()


def _versions() -> str:
    return (
        f"TensorFlow ModelServer: {_version_of('model-server')}\n"
        f"TensorFlow Library: {_version_of('tensorflow', 'tensorflow-cpu')}\n"
    )


def _version_of(*distributions: str) -> str:
    """The version of the first distribution that is installed; none is imported."""
    import importlib.metadata  # noqa: PLC0415  # a third of the time that --help takes

    for distribution in distributions:
        try:
            return importlib.metadata.version(distribution)
        except importlib.metadata.PackageNotFoundError:
            continue
    return "unknown"
