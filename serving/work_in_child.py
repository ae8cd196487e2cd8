"""Work in a process of its own, so that whatever native code does there ends as an outcome."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, cast

from serving.core.errors import Aborted, DeadlineExceeded, ServingError, error_for
from serving.core.process_ending import ending
from serving.loaders.child_process import begin

_PATH = str(Path(__file__).parents[1])
_LAST_BYTES = 4096
_LAST_LINES = 5

Work = Callable[[Any], Iterator[Any]]
"""Takes JSON, and yields JSON as often as there is more to tell; the last one counts."""


class Outcome(NamedTuple):
    """The last that the work told, None where that is nothing, and why there is no more of it."""

    told: Any
    error: ServingError | None = None


def work_in_child(target: str, argument: Any, timeout_seconds: float | None = None) -> Outcome:
    """Have ``module:function``, a :data:`Work`, work in a fresh interpreter.

    What it writes to its standard output and error is kept from ours. Where it does not come to its
    end, the outcome has what it told until then and the error: its own ServingError, Aborted with
    the last lines it wrote where the process has ended otherwise, DeadlineExceeded where it took
    too long.
    """
    # What the work leaves in its temporary directory goes too; what it started may yet write there.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        told, written = Path(folder, "told.json"), Path(folder, "written")
        with written.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", __name__, str(os.getpid()), target, str(told)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                process_group=0,
                env={**os.environ, "PYTHONPATH": _python_path(), "TMPDIR": folder},
            )
            try:
                process.communicate(json.dumps(argument).encode(), timeout_seconds)
            except subprocess.TimeoutExpired:
                return Outcome(_read(told).told, _too_late(timeout_seconds))
            finally:
                _end(process)
        outcome = _read(told)
        if outcome.error is None and process.returncode:
            return outcome._replace(error=_ended(process.returncode, written))
        return outcome


def _python_path() -> str:
    """Where this very program is found first."""
    return os.pathsep.join(filter(None, (_PATH, os.environ.get("PYTHONPATH"))))


def _end(process: subprocess.Popen[bytes]) -> None:
    """With the processes that it has started; what has ended already is passed over."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _read(file: Path) -> Outcome:
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Outcome(None)
    error = document["error"]
    return Outcome(document["told"], error and error_for(error["code"], error["message"]))


def _too_late(timeout_seconds: float | None) -> DeadlineExceeded:
    return DeadlineExceeded(f"it took more than {timeout_seconds:g} s, and was ended")


def _ended(status: int, written: Path) -> Aborted:
    how = f"its process {ending(status)}"
    with written.open("rb") as output:
        output.seek(max(0, written.stat().st_size - _LAST_BYTES))
        lines = output.read().decode("utf-8", "replace").split("\n")
    last = [line.strip() for line in lines if line.strip()][-_LAST_LINES:]
    return Aborted(f"{how}; its last words: {' | '.join(last)}" if last else how)


def _tell(file: Path, told: Any, error: ServingError | None = None) -> None:
    """At once, so that nobody reads half of it."""
    described = error and {"code": int(error.code), "message": error.message}
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps({"told": told, "error": described}), encoding="utf-8")
    unfinished.replace(file)


def _main(target: str, file: Path) -> None:
    """What the child does."""
    module, _, name = target.partition(":")
    told = None
    try:
        work = cast(Work, getattr(importlib.import_module(module), name))
        for told in work(json.load(sys.stdin)):
            _tell(file, told)
    except ServingError as error:
        _tell(file, told, error)


if __name__ == "__main__":
    begin(int(sys.argv[1]))
    _main(sys.argv[2], Path(sys.argv[3]))
    # Libraries that end badly after the work is done would make it look as if it had failed.
    sys.stdout.flush()
    os._exit(0)
