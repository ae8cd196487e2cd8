"""The processes of Python classes: how they end, and what that does."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from python_models import (
    DOUBLES,
    M1,
    PID,
    ask,
    ask_again,
    closing,
    is_running,
    loaded,
    pid_of,
    predicting,
    refusal,
    serve,
    version,
)
from waiting import await_

from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    ResourceExhausted,
    Unavailable,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId
from serving.loaders import python_process
from serving.loaders.python_loader import PythonPlatform

__all__ = ["closing"]

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os._exit(7)", "ended with exit status 7"),
        ("ctypes.string_at(0)", "was ended by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL, as happens where memory runs out"),
        ("sys.exit(3)", "ended with exit status 3"),
    ],
)
def test_a_crash_fails_the_run_and_the_next_one_is_served(
    tmp_path: Path, closing: ExitStack, body: str, how: str
):
    program = predicting(f"if x[0] < 0: {body}\nreturn {{'y': x}}")
    servable = serve(closing, version(tmp_path, program))
    with pytest.raises(Unavailable) as raised:
        ask(servable, -1)
    assert raised.value.message == (
        f"the process of {M1} {how} during the run; it is started again"
    )
    assert ask_again(servable, 1) == [1]


CLOSES = "import os, time; os.closerange(3, 64); time.sleep(1000)"
WRITES = (
    "import os, stat, time\n"
    "for number in map(int, os.listdir('/proc/self/fd')):\n"
    "    try:\n"
    "        if number > 2 and stat.S_ISSOCK(os.fstat(number).st_mode):\n"
    "            os.write(number, b'?' * 1000)\n"
    "    except OSError: pass\n"
    "time.sleep(1000)"
)


@pytest.mark.parametrize(
    ("program", "how"),
    [
        (CLOSES, "closed its connection and was ended"),
        (WRITES, "answered what can not be read and was ended"),
    ],
)
def test_a_process_that_the_server_ends_before_it_has_loaded_is_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, how: str
):
    monkeypatch.setattr(python_process, "_SECONDS_TO_END", 0)
    assert refusal(version(tmp_path, program)).message == (
        f"the process of {M1} {how} before model.py was loaded; the log shows what it said"
    )


def test_a_process_that_the_server_ends_in_a_run_is_told_as_such(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(python_process, "_SECONDS_TO_END", 0)
    program = predicting("os.closerange(3, 64)\ntime.sleep(1000)")
    servable = serve(closing, version(tmp_path, program))
    with pytest.raises(Unavailable) as raised:
        ask(servable, 1)
    assert raised.value.message == (
        f"the process of {M1} closed its connection and was ended during the run; it is started "
        "again"
    )


def test_a_process_without_a_thread_for_its_log_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    started: list[subprocess.Popen[bytes]] = []
    start = threading.Thread.start

    class Process(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            started.append(self)

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "python-model-log":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(subprocess, "Popen", Process)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    raised = refusal(version(tmp_path, DOUBLES))
    assert isinstance(raised, FailedPrecondition)
    assert raised.message.endswith("can not be started: can't start new thread")
    (process,) = started
    assert process.returncode == -signal.SIGKILL


def test_a_run_that_does_not_end_is_ended(
    tmp_path: Path, closing: ExitStack, caplog: pytest.LogCaptureFixture
):
    program = predicting("while x[0] < 0: pass\nreturn {'y': x}")
    servable = serve(closing, version(tmp_path, program, run_timeout_seconds=2))
    with pytest.raises(DeadlineExceeded, match="longer than run_timeout_seconds, 2;"):
        ask(servable, -1)
    assert ask_again(servable, 1) == [1]
    assert f"the process of {M1} did not answer in time and was ended; it" in caplog.text


def test_memory_is_bounded_and_a_leak_ends_with_its_process(tmp_path: Path, closing: ExitStack):
    program = predicting(
        """
        kept.append(np.empty(int(x[0]), np.uint8))
        return {'y': np.float32([sum(map(len, kept)) // 2**20])}
        """,
        before="kept = []",
    )
    path = version(tmp_path, program, memory_limit_bytes=2**34)
    servable = serve(closing, path)
    assert ask(servable, 2**20) == [1]
    assert ask(servable, 2**20) == [2]
    with pytest.raises(ResourceExhausted, match="more memory than its process may have"):
        ask(servable, 2**34)
    assert ask_again(servable, 2**20) == [1]
    assert PythonPlatform().estimate(path) == ResourceAllocation.ram(2**34)


def test_an_unload_ends_the_process_and_what_it_started(tmp_path: Path, closing: ExitStack):
    """After its ``unload``."""
    program = predicting(
        "return {'y': np.float32([n for pid in pids for n in divmod(pid, 1000)])}",
        before="""
        import os, subprocess, sys
        child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        pids = [os.getpid(), child.pid]
        """,
    )
    done = tmp_path / "unloaded"
    program += f"    def unload(self):\n        open({str(done)!r}, 'w').close()\n"
    servable = loaded(version(tmp_path / "1", program))
    closing.callback(servable.close)
    numbers = [int(number) for number in ask(servable, 0)]
    pids = [1000 * numbers[0] + numbers[1], 1000 * numbers[2] + numbers[3]]
    assert all(map(is_running, pids))
    closing.pop_all()
    servable.close()
    assert done.exists()
    await_(lambda: not any(map(is_running, pids)), lambda: "no process that is left")


def test_a_crash_of_one_model_is_nothing_to_another(tmp_path: Path, closing: ExitStack):
    crashing = serve(closing, version(tmp_path / "a", predicting("os._exit(1)")))
    whole = serve(closing, version(tmp_path / "b", PID), ServableId("other", 1))
    pid = pid_of(whole)
    with pytest.raises(Unavailable, match="name: m version: 1"):
        ask(crashing, 1)
    assert pid_of(whole) == pid


def test_what_is_no_answer_ends_the_process(tmp_path: Path, closing: ExitStack):
    """User code may write to anything that its process has open."""
    program = predicting(
        """
        if x[0] < 0:
            for number in range(3, 20):
                try: os.write(number, b"\\xff" * 8)
                except OSError: pass
        return {'y': x}
        """
    )
    servable = serve(closing, version(tmp_path, program))
    with pytest.raises(Internal, match="answered a header of 4294967295 bytes; it is started"):
        ask(servable, -1)
    assert ask_again(servable, 1) == [1]


def test_the_process_ends_with_the_server_whatever_it_computes(tmp_path: Path):
    path = version(tmp_path, predicting("print(os.getpid(), 'computes')\nwhile True: pass"))
    program = (
        "import logging, sys\n"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s', level=20)\n"
        f"sys.path[:0] = {[str(ROOT / each) for each in ('', 'tests', 'tests/loaders')]!r}\n"
        f"import python_models as models\n"
        f"models.ask(models.loaded({path!r}), 1)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "computes" in line)
        pid = int(line.split()[-2])
        assert is_running(pid)
        server.kill()
    await_(lambda: not is_running(pid), lambda: "the end of the process")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux chooses by such a number")
def test_the_system_ends_the_process_before_the_server_where_memory_is_short(
    tmp_path: Path, closing: ExitStack
):
    servable = serve(closing, version(tmp_path, PID))
    score = Path(f"/proc/{pid_of(servable)}/oom_score_adj").read_text()
    assert int(score) == 500
