"""Python classes in processes of their own: what they answer, and what their trouble does."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from python_models import M1, answers, ask, loaded, predicting, version
from waiting import WAIT_SECONDS, await_

from serving.core.dtypes import DType
from serving.core.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ResourceExhausted,
    ServingError,
    Unavailable,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo, max_runs_of, may_run_long
from serving.core.servable_id import ServableId
from serving.loaders import python_instance
from serving.loaders.device import device_named
from serving.loaders.python_loader import PythonPlatform, PythonServable
from serving.loaders.python_options import PythonOptions

ROOT = Path(__file__).parents[2]
DOUBLES = predicting("return {'y': 2 * x}")
PID = predicting("return {'y': np.float32([os.getpid() // 1000, os.getpid() % 1000])}")


@pytest.fixture
def closing() -> Iterator[ExitStack]:
    """Ends the processes of what a test loads."""
    with ExitStack() as stack:
        yield stack


def serve(closing: ExitStack, path: str, servable_id: ServableId = M1) -> PythonServable:
    servable = loaded(path, servable_id)
    closing.callback(servable.close)
    return servable


def refusal(path: str) -> ServingError:
    with pytest.raises(ServingError) as raised:
        loaded(path)
    assert path not in raised.value.message
    return raised.value


def ask_again(servable: PythonServable, *values: float) -> list[float]:
    """The answer once the process has been started again, however long that takes."""
    found: list[list[float]] = []

    def served() -> bool:
        try:
            found.append(ask(servable, *values))
        except (DeadlineExceeded, Unavailable):
            return False
        return True

    await_(served, lambda: "a process that answers")
    return found[0]


def pid_of(servable: PythonServable) -> int:
    thousands, rest = ask_again(servable, 0, 0)
    return int(1000 * thousands + rest)


def is_running(pid: int) -> bool:
    """Whether there is such a process, and not only what is left of it."""
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # it has ended just now, or this is not Linux
        return sys.platform != "linux"
    return state != "Z"


def test_a_class_answers(tmp_path: Path, closing: ExitStack):
    servable = serve(closing, version(tmp_path, DOUBLES))
    assert ask(servable, 1, 2.5) == [2, 5]
    assert ask(servable) == []


def test_a_class_says_itself_what_it_takes_and_gives_unless_a_file_does(
    tmp_path: Path, closing: ExitStack
):
    """From its ``load`` on; the file's word comes first, for inputs and outputs each."""
    path = version(tmp_path, "")
    (tmp_path / "model.py").write_text(
        "class Model:\n"
        "    inputs = {'words': {'dtype': 'string', 'shape': [None]}}\n"
        "    def load(self, path):\n"
        "        self.outputs = {'n': {'dtype': 'int64', 'shape': [None]}}\n"
        "    def predict(self, inputs):\n"
        "        return {'n': [len(word) for word in inputs['words']]}\n"
    )
    (tmp_path / "signature.json").unlink()
    signature = serve(closing, path).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"words": TensorInfo("words", DType.STRING, (None,))}
    assert signature.outputs == {"n": TensorInfo("n", DType.INT64, (None,))}
    file = {"outputs": {"n": {"dtype": "int32", "shape": [3]}}}
    (tmp_path / "signature.json").write_text(json.dumps(file))
    signature = serve(closing, path).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["words"].dtype is DType.STRING
    assert signature.outputs == {"n": TensorInfo("n", DType.INT32, (3,))}


def test_the_process_finds_its_files_and_modules_and_writes_elsewhere(
    tmp_path: Path, closing: ExitStack
):
    """Nothing of a load changes the version's directory, which is watched."""
    path = version(
        tmp_path,
        "import os, pathlib, sys\n"
        "import numpy as np\n"
        "import beside\n"
        "class Model:\n"
        "    def load(self, path):\n"
        "        self.factor = float(pathlib.Path(path, 'factor.txt').read_text())\n"
        "        pathlib.Path('here').write_text('x')\n"
        "    def predict(self, inputs):\n"
        "        return {'y': beside.times(inputs['x'], self.factor)}\n",
    )
    (tmp_path / "beside.py").write_text(
        "def times(x, factor):\n    return x * x.dtype.type(factor)\n"
    )
    (tmp_path / "factor.txt").write_text("3")
    before = sorted(tmp_path.rglob("*"))
    assert ask(serve(closing, path), 2) == [6]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_model_is_a_program_and_needs_to_be_allowed(tmp_path: Path):
    path = version(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')\n{DOUBLES}")
    for platform in (PythonPlatform(), PythonPlatform(PythonOptions(allow=False))):
        with pytest.raises(FailedPrecondition, match="--allow_python_models runs it"):
            platform.load(M1, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("program", "error", "text"),
    [
        ("def f(:\n", InvalidArgument, r"model.py can not be imported: invalid syntax \(line 1\)"),
        ("import no_such_module", InvalidArgument, "needs no_such_module, which is not installed"),
        ("1 / 0", InvalidArgument, "can not be imported: ZeroDivisionError, which the log shows"),
        ("class Other: pass", InvalidArgument, "has no class Model with a method predict"),
        ("class Model: pass", InvalidArgument, "has no class Model with a method predict"),
        (
            f"{DOUBLES}\n    def __init__(self): raise ValueError('why')",
            InvalidArgument,
            "ValueError: why",
        ),
        (
            f"{DOUBLES}\n    def load(self, path): open(path)",
            InvalidArgument,
            "can not be loaded: IsADir",
        ),
        (f"{DOUBLES}\n    inputs = {{1, 2}}", InvalidArgument, "JSON can not say"),
        (
            f"{DOUBLES}\n    inputs = {{'x': 'float'}}",
            InvalidArgument,
            "model.py: inputs.x must be",
        ),
        ("import os; os._exit(3)", InvalidArgument, "ended with exit status 3 before model.py"),
        ("import sys; sys.exit(4)", InvalidArgument, "ended with exit status 4 before model.py"),
        ("import ctypes; ctypes.string_at(0)", InvalidArgument, "was ended by SIGSEGV before"),
    ],
)
def test_a_model_that_does_not_load_has_one_reason(
    tmp_path: Path, program: str, error: type[ServingError], text: str
):
    raised = refusal(version(tmp_path, program))
    assert type(raised) is error
    assert re.search(text, raised.message), raised.message


def test_a_model_that_declares_nothing_is_refused(tmp_path: Path):
    path = version(tmp_path, DOUBLES)
    (tmp_path / "signature.json").unlink()
    assert "neither the class Model nor signature.json says its inputs" in refusal(path).message


def test_a_directory_without_a_program_is_no_version(tmp_path: Path):
    assert isinstance(refusal(str(tmp_path)), NotFound)


def test_a_load_that_takes_too_long_is_ended(tmp_path: Path):
    raised = refusal(version(tmp_path, "while True: pass", load_timeout_seconds=1))
    assert isinstance(raised, DeadlineExceeded)
    assert "load_timeout_seconds, 1," in raised.message


@pytest.mark.parametrize(
    ("body", "error", "text"),
    [
        ("raise ValueError('x is odd')", InvalidArgument, "^INVALID_ARGUMENT: x is odd$"),
        ("raise KeyError(sys.executable)", Internal, "^INTERNAL: the model failed unexpectedly$"),
        ("return 1", Internal, "answered int, not a mapping of outputs"),
        ("return {'z': x}", Internal, "answered no output 'y'"),
        ("return {'y': x.astype(np.float64)}", Internal, "'y' must be float, not double"),
        ("return {'y': x[:, None]}", Internal, r"'y' must have the shape \[\?\], not \[1,1\]"),
        ("return {'y': [[1], [2, 3]]}", Internal, "'y' that is no array"),
        ("return {'y': [object()]}", Internal, "no tensor: 'y' holds object"),
        ("return {'y': np.array(['2020'], 'M8[D]')}", Internal, "no tensor: 'y' holds datetime64"),
    ],
)
def test_what_a_model_raises_and_answers_wrongly_has_its_code(
    tmp_path: Path,
    closing: ExitStack,
    body: str,
    error: type[ServingError],
    text: str,
):
    """Only the text of a ValueError is for clients. The process goes on."""
    program = predicting(f"if len(x) == 2: return {{'y': x}}\n{body}")
    servable = serve(closing, version(tmp_path, program))
    for _ in range(2):
        with pytest.raises(error, match=text) as raised:
            ask(servable, 1)
        assert sys.executable not in raised.value.message
    assert ask(servable, 1, 2) == [1, 2]


@pytest.mark.parametrize(
    ("body", "how"),
    [
        ("os._exit(7)", "ended with exit status 7"),
        ("ctypes.string_at(0)", "was ended by SIGSEGV"),
        ("os.kill(os.getpid(), 9)", "was ended by SIGKILL"),
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


def test_a_process_that_ends_between_runs_is_started_again(tmp_path: Path, closing: ExitStack):
    servable = serve(closing, version(tmp_path, PID))
    first = pid_of(servable)
    os.kill(first, signal.SIGKILL)
    await_(lambda: pid_of(servable) != first, lambda: "another process")


def test_a_process_that_can_not_be_started_again_says_why(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    """To each run, with a hint when to try again; and it is served once that is mended."""
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    path = version(tmp_path, predicting("if x[0] < 0: os._exit(1)\nreturn {'y': x}"))
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


def test_a_process_that_declares_something_else_is_not_served(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(python_instance, "_LONGEST_WAIT_SECONDS", 0.05)
    program = predicting("if x[0] < 0: os._exit(1)\nreturn {'y': x}")
    servable = serve(closing, version(tmp_path, program))
    other = f"{program}\n    inputs = {{'z': {{'dtype': 'float'}}}}\n"
    (tmp_path / "model.py").write_text(other)
    texts: list[str] = []

    def told() -> bool:
        with pytest.raises(Unavailable) as raised:
            ask(servable, -1)
        texts.append(raised.value.message)
        return "declares other inputs and outputs than before" in texts[-1]

    await_(told, lambda: f"the reason, not {texts[-1]}")


def test_a_run_that_does_not_end_is_ended(tmp_path: Path, closing: ExitStack):
    program = predicting("while x[0] < 0: pass\nreturn {'y': x}")
    servable = serve(closing, version(tmp_path, program, run_timeout_seconds=2))
    with pytest.raises(DeadlineExceeded, match="longer than run_timeout_seconds, 2;"):
        ask(servable, -1)
    assert ask_again(servable, 1) == [1]


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


def test_what_a_model_prints_goes_to_the_log_and_into_no_answer(
    tmp_path: Path, closing: ExitStack, caplog: pytest.LogCaptureFixture
):
    """Also by file number and from C; and the trace of what it raises."""
    program = predicting(
        """
        print("printed")
        os.write(1, b"written\\n")
        ctypes.CDLL(None).puts(b"put")
        ctypes.CDLL(None).fflush(None)
        sys.stderr.write("warned\\n")
        if x[0] < 0: raise KeyError("the trace")
        return {'y': x}
        """
    )
    with caplog.at_level(logging.INFO):
        servable = serve(closing, version(tmp_path, program))
        assert ask(servable, 1) == [1]
        with pytest.raises(Internal):
            ask(servable, -1)
        said = ("printed", "written", "put", "warned", "KeyError: 'the trace'")
        lines = {f"{M1}: {line}" for line in said}
        await_(lambda: lines <= set(caplog.messages), lambda: f"{lines}, not {caplog.messages}")


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


def test_an_unload_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(python_instance, "_GRACE_SECONDS", 0.1)
    program = f"{PID}    def unload(self):\n        while True: pass\n"
    servable = loaded(version(tmp_path, program))
    pid = pid_of(servable)
    servable.close()
    assert not is_running(pid)


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


def test_each_of_several_runs_is_done_by_itself(tmp_path: Path, closing: ExitStack):
    """Whoever serves it is told so, and that runs may take long."""
    servable = serve(closing, version(tmp_path, DOUBLES))
    assert max_runs_of(servable) == 1
    assert may_run_long(servable)


def test_a_large_array_goes_both_ways(tmp_path: Path, closing: ExitStack):
    servable = serve(closing, version(tmp_path, DOUBLES))
    values = np.arange(3_000_000, dtype=np.float32)
    (answer,) = answers(servable, *values[:5], *values)
    np.testing.assert_array_equal(answer[5:], 2 * values)


def test_a_model_may_have_an_interpreter_of_its_own(tmp_path: Path, closing: ExitStack):
    """With its own libraries, and none of the server's."""
    environment = tmp_path / "environment"
    create = [sys.executable, "-m", "venv", "--without-pip", str(environment)]
    subprocess.run(create, check=True, timeout=WAIT_SECONDS)
    (packages,) = environment.glob("lib/python*/site-packages")
    for file in importlib.metadata.files("numpy") or []:
        if len(file.parts) == 2 and file.name == "__init__.py":
            (packages / "numpy").symlink_to(Path(file.locate()).parent)
            libraries = Path(file.locate()).parent.parent / "numpy.libs"
            (packages / "numpy.libs").symlink_to(libraries)
    program = predicting(
        "return {'y': x if found is None else -x}",
        before=f"""
        import importlib.util, sys
        assert sys.prefix == {str(environment)!r}
        found = importlib.util.find_spec("grpc")
        """,
    )
    interpreter = str(environment / "bin" / "python")
    assert ask(serve(closing, version(tmp_path / "1", program, interpreter=interpreter)), 1) == [1]


def test_an_interpreter_that_is_not_there_is_told(tmp_path: Path):
    raised = refusal(version(tmp_path, DOUBLES, interpreter="/no/such/python"))
    assert isinstance(raised, FailedPrecondition)
    assert raised.message.startswith("worker.json: interpreter can not be started: No such file")


def test_a_device_hides_the_other_gpus(
    tmp_path: Path, closing: ExitStack, monkeypatch: pytest.MonkeyPatch
):
    program = predicting(
        "return {'y': np.float32([float(os.environ['CUDA_VISIBLE_DEVICES'] or -1)])}"
    )
    path = version(tmp_path, program)

    def seen(device: str) -> list[float]:
        servable = PythonPlatform(PythonOptions(allow=True)).load(M1, path, device_named(device))
        closing.callback(servable.close)
        return ask(servable, 0)

    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert [seen("cpu"), seen("gpu:1")] == [[-1], [1]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")
    assert [seen("cpu"), seen("gpu:1"), seen("gpu:2")] == [[-1], [7], [-1]]


def test_the_process_ends_with_the_server_whatever_it_computes(tmp_path: Path):
    path = version(tmp_path, predicting("print(os.getpid(), 'computes')\nwhile True: pass"))
    program = (
        "import logging, sys\n"
        "logging.basicConfig(stream=sys.stdout, format='%(message)s', level=20)\n"
        f"sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests/loaders')!r}]\n"
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


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "worker.json is no JSON"),
        ("[]", "it must be an object, which may have interpreter, load_timeout"),
        ('{"retries": 1}', "it must be an object"),
        ('{"interpreter": "python"}', "interpreter must be an absolute path"),
        ('{"interpreter": 3}', "interpreter must be an absolute path"),
        ('{"run_timeout_seconds": 0}', "run_timeout_seconds must be a number above 0"),
        ('{"run_timeout_seconds": NaN}', "run_timeout_seconds must be a number above 0"),
        ('{"load_timeout_seconds": "1"}', "load_timeout_seconds must be a number above 0"),
        ('{"load_timeout_seconds": true}', "load_timeout_seconds must be a number above 0"),
        ('{"memory_limit_bytes": 1.5}', "memory_limit_bytes must be an integer of at least 0"),
        ('{"memory_limit_bytes": -1}', "memory_limit_bytes must be an integer of at least 0"),
    ],
)
def test_a_worker_file_says_what_is_documented_or_what_is_wrong(
    tmp_path: Path, text: str, says: str
):
    path = version(tmp_path, DOUBLES)
    (tmp_path / "worker.json").write_text(text)
    raised = refusal(path)
    assert isinstance(raised, InvalidArgument)
    assert says in raised.message
