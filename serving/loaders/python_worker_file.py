"""``worker.json``, which says how the process of a Python model is run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from serving.core.errors import InvalidArgument
from serving.loaders.settings_file import read_settings

WORKER_FILE = "worker.json"
_MOST_SECONDS = 604800  # a week; sockets can wait for not much more than three


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """``interpreter``: the absolute path of another Python than the server's, which has numpy.

    A process that takes longer to load or to run is ended. ``memory_limit_bytes`` bounds its
    address space, which libraries take far more of than they use; 0: nothing does.
    Raises InvalidArgument, naming the value, for one that is none.
    """

    interpreter: str = ""
    load_timeout_seconds: float = 300.0
    run_timeout_seconds: float = 300.0
    memory_limit_bytes: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.interpreter, str) or self.interpreter[:1] not in ("", "/"):
            raise _wrong("interpreter must be an absolute path")
        for name in ("load_timeout_seconds", "run_timeout_seconds"):
            value = getattr(self, name)
            if not _is_number(value) or not 0 < value <= _MOST_SECONDS:
                raise _wrong(f"{name} must be a number above 0, at most {_MOST_SECONDS}")
        if type(self.memory_limit_bytes) is not int or not 0 <= self.memory_limit_bytes < 2**63:
            raise _wrong("memory_limit_bytes must be an integer of at least 0")


def read_worker_file(directory: str) -> WorkerSettings:
    """What the ``worker.json`` of a version says; the defaults where there is none.

    Raises InvalidArgument for one that is not as documented.
    """
    return read_settings(directory, WORKER_FILE, WorkerSettings)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _wrong(text: str) -> InvalidArgument:
    return InvalidArgument(f"{WORKER_FILE}: {text}")
