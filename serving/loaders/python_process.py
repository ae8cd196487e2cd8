"""One process of a Python model, as the server holds it."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress

import numpy as np

from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.process_ending import ending
from serving.core.servable_id import ServableId
from serving.loaders.child_process import child_command
from serving.loaders.python_frames import Frame, MalformedFrame, Parts, encoded, receive, send
from serving.loaders.python_worker_file import WORKER_FILE, WorkerSettings

log = logging.getLogger(__name__)

_MODULE = "serving.loaders.python_worker"
_MOST_LINE_BYTES = 10_000
_UNREADABLE = "answered what can not be read and was ended"
_SECONDS_TO_END, _SECONDS_BETWEEN_LOOKS = 5.0, 0.01
"""The system takes a process's connection from it shortly before the process has ended."""


class PythonProcess:
    """An interpreter that loads ``model.py`` and answers runs, one at a time.

    It has a directory of its own to work in, and a process group, so that what it starts ends with
    it. What it prints goes to the log. The system ends it with the thread that has made this, which
    has to :meth:`wait` for it, then to :meth:`release` it. Raises FailedPrecondition where it can
    not be started.
    """

    def __init__(
        self,
        servable_id: ServableId,
        directory: str,
        settings: WorkerSettings,
        environment: Mapping[str, str],
    ) -> None:
        """``directory`` is that of the version; ``environment`` are its variables."""
        self._id = servable_id
        self._settings = settings
        self._lock = threading.Lock()  # a process that is waited for is a number for others to have
        self._in_use = threading.Lock()
        self._why = self._how = ""
        self._gone = threading.Event()
        try:
            self._start(directory, environment)
        except (OSError, RuntimeError) as error:  # the latter where there can be no more threads
            raise FailedPrecondition(
                f"the process of {self._id} can not be started: {_cause(error)}"
            ) from error

    def _start(self, directory: str, environment: Mapping[str, str]) -> None:
        with ExitStack() as failed:
            # What escaped from the process's group may write there still.
            folder = failed.enter_context(
                tempfile.TemporaryDirectory(prefix="python_model_", ignore_cleanup_errors=True)
            )
            ours, theirs = socket.socketpair()
            self._connection = failed.enter_context(ours)
            with theirs:
                self._process = self._started(directory, theirs.fileno(), folder, environment)
            self._resources = failed.pop_all()
        try:
            threading.Thread(target=self._log_lines, name="python-model-log", daemon=True).start()
        except RuntimeError:
            with self._process:  # closes what nobody reads
                self.kill()
                self.wait()
            self.release()
            raise

    def _started(
        self, directory: str, number: int, folder: str, environment: Mapping[str, str]
    ) -> subprocess.Popen[bytes]:
        limit = str(self._settings.memory_limit_bytes)
        interpreter = self._settings.interpreter
        command = child_command(_MODULE, str(number), directory, limit, interpreter=interpreter)
        try:
            return subprocess.Popen(
                command,
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(number,),
                process_group=0,
            )
        except OSError as error:
            if not interpreter:
                raise
            raise FailedPrecondition(
                f"{WORKER_FILE}: interpreter can not be started: {_cause(error)}"
            ) from error

    def load(self) -> str:
        """Wait until the model is loaded: what it declares, as the text of a ``signature.json``.

        Called on the thread that waits. Raises InvalidArgument with the reason why it is not,
        DeadlineExceeded when it takes longer than the settings allow; the process has ended then.
        """
        seconds = self._settings.load_timeout_seconds
        error: ServingError | None = None
        try:
            told = receive(self._connection, time.monotonic() + seconds).fields
            if told.get("outcome") == "loaded":
                return str(told.get("text"))
            error = InvalidArgument(f"model.py {told.get('text')}")
        except TimeoutError:
            error = DeadlineExceeded(
                f"model.py took longer than load_timeout_seconds, {seconds:g}, to load"
            )
        except MalformedFrame:
            self._why = _UNREADABLE
        except (EOFError, OSError):
            self._why = self._let_end()
        self.kill()
        how = self.wait()
        self.release()
        raise error or InvalidArgument(
            f"the process of {self._id} {how} before model.py was loaded; the log shows what it "
            "said"
        )

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Mapping[str, np.ndarray]:
        """What the model answers, as it answers it; runs of several threads take turns.

        Raises InvalidArgument for what the model refuses, Internal where it fails,
        ResourceExhausted where it has no memory. Where the process has ended, which it is made to
        do where it answers what can not be read, or does not answer in time, raises Unavailable,
        Internal or DeadlineExceeded.
        """
        asked = encoded(Frame({"fetches": list(fetches)}, feeds))
        with self._in_use:
            answer = self._answer(asked)
        if answer.fields.get("outcome") != "done":
            raise self._failure(answer.fields)
        return answer.arrays

    def _answer(self, asked: Parts) -> Frame:
        seconds = self._settings.run_timeout_seconds
        deadline = time.monotonic() + seconds
        try:
            send(self._connection, asked, deadline)
            return receive(self._connection, deadline)
        except TimeoutError:
            self._end("did not answer in time and was ended")
            raise DeadlineExceeded(
                f"the run of {self._id} took longer than run_timeout_seconds, {seconds:g}; its "
                "process is started again"
            ) from None
        except MalformedFrame as error:
            self._end(_UNREADABLE)
            raise Internal(
                f"the process of {self._id} answered {error}; it is started again"
            ) from error
        except (EOFError, OSError):
            how = self._end(self._let_end())
            raise Unavailable(
                f"the process of {self._id} {how} during the run; it is started again"
            ) from None

    def _failure(self, fields: Mapping[str, object]) -> ServingError:
        outcome, text = fields.get("outcome"), str(fields.get("text"))
        if outcome == "refused":
            return InvalidArgument(text)
        if outcome == "wrong":
            return Internal(f"the model {text}")
        if outcome == "no memory":
            return ResourceExhausted(
                f"the run of {self._id} needs more memory than its process may have"
            )
        return Internal("the model failed unexpectedly")

    def let_go(self) -> None:
        """Have it end by itself, after the run that it does."""
        with suppress(OSError):  # it has ended
            self._connection.shutdown(socket.SHUT_WR)

    def kill(self) -> None:
        """End it, and all that it has started, now."""
        with self._lock:
            if self._process.returncode is None:
                self._kill_group()

    def wait(self) -> str:
        """Return when it has ended, with how it did; what it has started is ended then."""
        os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            self._kill_group()  # while its number is still its own
            status = self._process.wait()
            self._how = self._why or ending(status)
        return self._how

    def release(self) -> None:
        """Have a run that waits for its answer fail, and let go of all that the process had."""
        self._gone.set()
        with suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)
        with self._in_use:
            self._resources.close()

    def _kill_group(self) -> None:
        with suppress(ProcessLookupError, PermissionError):  # macOS's word for one that has ended
            os.killpg(self._process.pid, signal.SIGKILL)

    def _let_end(self) -> str:
        """Nothing once a process without a connection has ended by itself, for how it did says
        more; else, after a moment, why it is made to end.
        """
        until = time.monotonic() + _SECONDS_TO_END
        while not self._has_ended():
            if time.monotonic() > until:
                return "closed its connection and was ended"
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        return ""

    def _has_ended(self) -> bool:
        with self._lock:
            if self._process.returncode is not None:
                return True
            look = os.WEXITED | os.WNOWAIT | os.WNOHANG
            return os.waitid(os.P_PID, self._process.pid, look) is not None

    def _end(self, why: str) -> str:
        """For threads other than the one that waits: make sure that it ends; returns how it did,
        which is ``why`` where there is one.
        """
        self._why = why
        self.kill()
        self._gone.wait()
        return self._how

    def _log_lines(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            while line := lines.readline(_MOST_LINE_BYTES):
                log.info("%s: %s", self._id, line.decode(errors="replace").rstrip())


def _cause(error: OSError | RuntimeError) -> str:
    """The system's words, which name no path as the error's own may."""
    if isinstance(error, OSError) and error.errno is not None:
        return os.strerror(error.errno)
    return str(error)
