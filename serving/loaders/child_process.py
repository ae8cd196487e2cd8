"""Fresh interpreters that run a module of this program, and never outlive the server.

Imports nothing of the server's: the interpreter may be another one, without its libraries.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

_ROOT = str(Path(__file__).parents[2])
_PR_SET_PDEATHSIG = 1
_RATHER_THIS_ONE = b"500"


def child_command(module: str, *arguments: str, interpreter: str = "") -> list[str]:
    """What starts ``main(arguments)`` of a module of this program.

    Where this program lies is the first entry of its ``sys.path``; numpy is imported before that,
    the interpreter's own. One that is named does not read Python's environment variables, which
    are meant for this one.
    """
    start = (
        f"import sys, numpy; sys.path.insert(0, {_ROOT!r}); "
        f"from serving.loaders.child_process import begin; begin({os.getpid()}); "
        f"from {module} import main; main(sys.argv[1:])"
    )
    isolation = "-I" if interpreter else "-P"
    return [interpreter or sys.executable, isolation, "-u", "-c", start, *arguments]


def begin(parent: int) -> None:
    """What such a process does first, for its trouble to be its own; ``parent`` started it.

    On Linux the system kills it when the thread that started it ends, which what computes for ever
    would not notice by itself, and kills it before the server where memory is short.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # as large as its memory, and nobody's to read
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        with suppress(OSError):  # where it may be read only
            Path("/proc/self/oom_score_adj").write_bytes(_RATHER_THIS_ONE)
    if os.getppid() != parent:
        os._exit(1)  # it had ended before
