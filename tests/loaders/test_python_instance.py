"""Python classes whose processes are started again."""

from __future__ import annotations

import errno
import os
import signal
import tempfile
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from python_models import (
    CRASHES_BELOW_0,
    DOUBLES,
    M1,
    PID,
    ask,
    ask_again,
    closing,
    is_running,
    loaded,
    pid_of,
    refusal,
    serve,
    version,
)
from waiting import WAIT_SECONDS, await_

from serving.core.clock import SystemClock
from serving.core.errors import (
    FailedPrecondition,
    Unavailable,
)
from serving.loaders import python_instance
from serving.loaders.python_instance import PythonInstance
from serving.loaders.python_process import PythonProcess
from serving.loaders.python_worker_file import WorkerSettings

__all__ = ["closing"]


def test_a_process_that_ends_between_runs_is_started_again(tmp_path: Path, closing: ExitStack):
    servable = serve(closing, version(tmp_path, PID))
    first = pid_of(servable)
    os.kill(first, signal.SIGKILL)
    await_(lambda: pid_of(servable) != first, lambda: "another process")


def test_a_version_without_a_thread_for_its_process_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "python-model":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    raised = refusal(version(tmp_path, DOUBLES))
    assert isinstance(raised, FailedPrecondition)
    assert raised.message == f"the process of {M1} can not be started: can't start new thread"


def test_a_process_that_can_not_be_started_again_says_why(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """To each run, with a hint when to try again; and it is served once that is mended."""
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    path = version(tmp_path, CRASHES_BELOW_0)
    servable = serve(closing, path)
    (tmp_path / "model.py").write_text("import no_such_module")
    texts: list[str] = []

    def told() -> bool:
        with pytest.raises(Unavailable) as raised:
            ask(servable, -1)
        texts.append(raised.value.message)
        assert "during the run" in texts[-1] or raised.value.retry_after_seconds
        return "needs no_such_module, which is not installed; it is started again" in texts[-1]

    await_(told, lambda: f"the reason, not {texts[-1]}")
    (tmp_path / "model.py").write_text(DOUBLES)
    assert ask_again(servable, 1) == [2]


def test_a_process_that_the_system_has_no_means_for_is_started_once_it_has(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """Such as room for its directory; what is said names no path."""
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    servable = serve(closing, version(tmp_path, CRASHES_BELOW_0))
    texts: list[str] = []

    def told() -> bool:
        with pytest.raises(Unavailable) as raised:
            ask(servable, -1)
        texts.append(raised.value.message)
        return "can not be started: No such file or directory; it is" in texts[-1]

    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
        await_(told, lambda: f"the reason, not {texts[-1]}")
    assert not any(str(tmp_path) in text for text in texts)
    assert ask_again(servable, 1) == [1]


def test_a_directory_that_can_not_be_removed_is_nothing_to_the_next_process(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """As where a program that the model has started elsewhere writes there still."""
    left: list[str] = []
    remove = os.rmdir

    def refuse(path: str, *args: Any, **kwargs: Any) -> None:
        if "python_model_" not in str(path):
            return remove(path, *args, **kwargs)
        left.append(str(path))
        raise OSError(errno.ENOTEMPTY, "Directory not empty", path)

    servable = serve(closing, version(tmp_path, CRASHES_BELOW_0))
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(os, "rmdir", refuse)
        with pytest.raises(Unavailable):
            ask(servable, -1)
        assert ask_again(servable, 1) == [1]
    for path in left:
        remove(path)
    assert len(left) == 1


def test_no_error_ends_what_starts_a_process_again(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """Whatever was not thought of is tried again too, and stays in the log."""
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    path = version(tmp_path, CRASHES_BELOW_0)
    trouble: list[Exception] = []

    def start() -> PythonProcess:
        if trouble:
            raise trouble[0]
        return PythonProcess(M1, path, WorkerSettings(), os.environ)

    instance = PythonInstance(M1, start, SystemClock())
    closing.callback(instance.close)
    trouble.append(KeyError("unforeseen"))
    texts: list[str] = []
    feeds = {"x": np.array([-1], np.float32)}

    def told() -> bool:
        with pytest.raises(Unavailable) as raised:
            instance.run(feeds, ["y"])
        texts.append(raised.value.message)
        return "was started again, but failed unexpectedly; it is started again" in texts[-1]

    await_(told, lambda: f"the reason, not {texts[-1]}")
    assert not any("unforeseen" in text for text in texts)
    trouble.clear()
    feeds["x"] += 2

    def served() -> bool:
        with suppress(Unavailable):
            return instance.run(feeds, ["y"])["y"].tolist() == [1]
        return False

    await_(served, lambda: "a process that answers")


def test_whoever_finds_no_process_is_told_when_to_come_again(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """Also before all that the last one had is let go of."""
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    release = PythonProcess.release
    reached, go_on = threading.Event(), threading.Event()

    def slowly(process: PythonProcess) -> None:
        reached.set()
        assert go_on.wait(WAIT_SECONDS)
        release(process)

    servable = serve(closing, version(tmp_path, PID))
    closing.callback(go_on.set)
    pid = pid_of(servable)
    monkeypatch.setattr(PythonProcess, "release", slowly)
    os.kill(pid, signal.SIGKILL)
    assert reached.wait(WAIT_SECONDS)
    with pytest.raises(Unavailable) as raised:
        ask(servable, 0, 0)
    assert raised.value.retry_after_seconds == 0.5


def test_a_process_that_declares_something_else_is_not_served(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    servable = serve(closing, version(tmp_path, CRASHES_BELOW_0))
    other = f"{CRASHES_BELOW_0}\n    inputs = {{'z': {{'dtype': 'float'}}}}\n"
    (tmp_path / "model.py").write_text(other)
    texts: list[str] = []

    def told() -> bool:
        with pytest.raises(Unavailable) as raised:
            ask(servable, -1)
        texts.append(raised.value.message)
        return "declares other inputs and outputs than before" in texts[-1]

    await_(told, lambda: f"the reason, not {texts[-1]}")


def test_an_unload_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(python_instance, "_GRACE_SECONDS", 0.1)
    program = f"{PID}    def unload(self):\n        while True: pass\n"
    servable = loaded(version(tmp_path, program))
    pid = pid_of(servable)
    servable.close()
    assert not is_running(pid)
