"""A Python model whose process is started again whenever it ends."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future

import numpy as np

from serving.core.back_off import BackOff
from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, ServingError, Unavailable
from serving.core.servable_id import ServableId
from serving.loaders.python_process import PythonProcess

log = logging.getLogger(__name__)

_GRACE_SECONDS = 10
_LONGEST_WAIT_SECONDS = 5.0
"""How long a run waits for a process that is being started, and holds its thread."""


class PythonInstance:
    """Loaded when made, until :meth:`close`.

    Thread-safe; runs are done one after the other. A thread of its own starts the processes and
    waits for them, as they end with it.
    """

    def __init__(
        self, servable_id: ServableId, start: Callable[[], PythonProcess], clock: Clock
    ) -> None:
        """Blocks until the model is loaded; raises what the first process raises, and
        FailedPrecondition where there can be no thread for it.
        """
        self._id = servable_id
        self._start = start
        self._clock = clock
        self._process: PythonProcess | None = None
        self._loaded = threading.Event()
        self._closing = threading.Event()
        self._how = ""
        self._retry_seconds = 0.0
        first: Future[str] = Future()
        self._thread = threading.Thread(
            target=self._keep, args=(first,), name="python-model", daemon=True
        )
        try:
            self._thread.start()
        except RuntimeError as error:  # there can be no more threads
            raise FailedPrecondition(
                f"the process of {servable_id} can not be started: {error}"
            ) from error
        self.declared = first.result()
        """What the model declares, as the text of a ``signature.json``."""

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        """As :meth:`PythonProcess.run`.

        Waits a few seconds for a process that is being started, then raises Unavailable.
        """
        loaded = self._clock.wait(self._loaded, _LONGEST_WAIT_SECONDS)
        process = self._process
        if not loaded or process is None:
            raise Unavailable(
                f"the process of {self._id} {self._how}; it is started again",
                self._retry_seconds,
            )
        return process.run(feeds, fetches)

    def close(self) -> None:
        """End the process: by itself within ten seconds, else at once. Returns when it is gone."""
        self._closing.set()
        if process := self._process:
            process.let_go()
        self._thread.join(_GRACE_SECONDS)
        while self._thread.is_alive():
            if process := self._process:
                process.kill()
            self._thread.join(1)

    def _keep(self, first: Future[str]) -> None:
        try:
            process, declared = self._started()
        except BaseException as error:  # noqa: BLE001 - for whoever waits
            first.set_exception(error)
            return
        back_off = BackOff(self._clock)
        first.set_result(declared)
        while True:
            self._loaded.set()
            self._how = process.wait()
            self._retry_seconds = back_off.ended()
            self._loaded.clear()
            self._process = None
            process.release()
            again = self._again(back_off, declared)
            if again is None:
                return
            process = again

    def _again(self, back_off: BackOff, declared: str) -> PythonProcess | None:
        """The next process that loads the model; None once there is to be none."""
        while not self._closing.is_set():
            log.error(
                "the process of %s %s; it is started again in %g seconds",
                self._id,
                self._how,
                self._retry_seconds,
            )
            if self._clock.wait(self._closing, self._retry_seconds):
                break
            back_off.started()
            try:
                process, now = self._started()
                if now == declared:
                    return process
                process.kill()
                process.wait()
                process.release()
                self._how = "declares other inputs and outputs than before"
            except ServingError as error:
                self._how = f"was started again, but {error.message}"
            except Exception:
                log.exception("the process of %s can not be started again", self._id)
                self._how = "was started again, but failed unexpectedly"
            self._retry_seconds = back_off.ended()
        return None

    def _started(self) -> tuple[PythonProcess, str]:
        process = self._process = self._start()
        return process, process.load()
