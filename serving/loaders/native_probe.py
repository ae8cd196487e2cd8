"""Files are loaded in a short-lived process first where their framework may crash on them.

The readers of XGBoost, LightGBM and CatBoost follow the numbers in a file wherever these lead: one
that is damaged would end the server.
"""

from __future__ import annotations

import logging
import os
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import DeadlineExceeded, InvalidArgument, ServingError
from serving.core.process_ending import ending
from serving.core.servable import DEFAULT_SIGNATURE, Servable, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.child_process import child_command
from serving.loaders.native_options import NativeOptions
from serving.loaders.platforms import Platforms

log = logging.getLogger(__name__)

_MODULE = "serving.loaders.native_probe"
_SECONDS = 60.0
_BYTES_PER_SECOND = 1_000_000  # slower than any disk, and than the readers
_SURVIVED = 86
"""An exit status that says so; native code may end a process with any of the usual ones."""
_ROWS = 64
_MOST_OUTPUT = 2000


class NativeProbe:
    """Tries the files of one platform, where the options want that. Thread-safe."""

    def __init__(self, platform: str, options: NativeOptions | None = None) -> None:
        """``platform``: its name in the table."""
        self._platform = platform
        self._options = options or NativeOptions()
        self._lock = threading.Lock()
        self._survived: tuple[object, ...] = ()

    def check(self, path: str, file: Path) -> None:
        """Load the version, and compute some rows, in another process; blocks for that.

        A file that has not changed since it was last tried is not tried again: instances of a
        version are loaded one after the other. Files that are merely wrong pass: the server's own
        load says what is wrong. Raises InvalidArgument where the process crashes, DeadlineExceeded
        where it takes longer than a minute, and a second for each megabyte of the file.
        """
        if not self._options.probe:
            return
        status = file.stat()
        stamp = (path, file, status.st_ino, status.st_size, status.st_mtime_ns)
        with self._lock:
            if stamp == self._survived:
                return
        self._try(path, file, _SECONDS + status.st_size / _BYTES_PER_SECOND)
        with self._lock:
            self._survived = stamp

    def _try(self, path: str, file: Path, seconds: float) -> None:
        command = child_command(_MODULE, self._platform, str(Path(path).absolute()))
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=seconds,
                check=False,
                process_group=0,
            )
        except subprocess.TimeoutExpired:
            raise DeadlineExceeded(
                f"{file.name} took the platform {self._platform} longer than {seconds:g} seconds "
                "to load in a process that tries it first; --probe_native_models=false does without"
            ) from None
        if done.returncode != _SURVIVED:
            how = ending(done.returncode)
            said = done.stdout.decode(errors="replace")[-_MOST_OUTPUT:]
            log.error("the process that tried %s %s: %s", file.name, how, said)
            raise InvalidArgument(
                f"{file.name} is no whole model of the platform {self._platform}: the process that "
                f"tried to load it {how}"
            )


def main(arguments: Sequence[str]) -> None:
    """Load a version, by the names of its platform and its directory, and end."""
    platform, path = arguments
    with suppress(Exception):  # which the server meets itself, and can tell
        options = {platform: NativeOptions(probe=False)}
        servable = Platforms(options).get(platform).load(ServableId("probe", 1), path)
        _run(servable)
    os._exit(_SURVIVED)


def _run(servable: Servable) -> None:
    """Rows of many kinds, as a file may lead astray only on some of the ways through a tree."""
    signature = servable.signatures[DEFAULT_SIGNATURE]
    random = np.random.default_rng(0)
    feeds = {info.name: _rows(info, random) for info in signature.inputs.values()}
    with suppress(ServingError):
        run_and_wait(servable, feeds, [info.name for info in signature.outputs.values()])


def _rows(info: TensorInfo, random: np.random.Generator) -> np.ndarray:
    shape = (_ROWS, *(size or 1 for size in (info.shape or (None,))[1:]))
    if info.dtype is DType.STRING:
        return random.choice(np.array([b"", b"a", b"0", b"1"], np.object_), shape)
    values = random.normal(size=shape) * 10.0 ** random.integers(-3, 4, shape)
    if numpy_dtype(info.dtype).kind == "f":
        values[random.random(shape) < 0.1] = np.nan
    return values.astype(numpy_dtype(info.dtype))
