"""Python classes in processes of their own: what is loaded, and what it answers."""

from __future__ import annotations

import importlib.metadata
import json
import logging
import re
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from python_models import (
    DOUBLES,
    FLOATS,
    M1,
    answers,
    ask,
    ask_again,
    closing,
    predicting,
    refusal,
    serve,
    version,
)
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
)
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    TensorInfo,
    max_runs_of,
    may_run_long,
    run_and_wait,
)
from serving.loaders.device import device_named
from serving.loaders.python_loader import PythonPlatform
from serving.loaders.python_options import PythonOptions

__all__ = ["closing"]


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
        ("return {'y': Raising(RuntimeError)}", Internal, "^INTERNAL: the model failed unexp"),
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
    raising = """
        class Raising:
            def __init__(self, error): self.error = error
            def __array__(self, *args, **kwargs): raise self.error(sys.executable)
    """
    program = predicting(f"if len(x) == 2: return {{'y': x}}\n{body}", before=raising)
    servable = serve(closing, version(tmp_path, program))
    for _ in range(2):
        with pytest.raises(error, match=text) as raised:
            ask(servable, 1)
        assert sys.executable not in raised.value.message
    assert ask(servable, 1, 2) == [1, 2]


def test_an_input_that_the_interpreter_has_no_type_for_is_told(tmp_path: Path, closing: ExitStack):
    """And the process goes on: a second run finds the same."""
    program = predicting("return {'y': x}", before="import sys; sys.modules['ml_dtypes'] = None")
    path = version(tmp_path, program)
    inputs = {"b": {"dtype": "bfloat16", "shape": [None]}, "x": FLOATS}
    (tmp_path / "signature.json").write_text(
        json.dumps({"inputs": inputs, "outputs": {"y": FLOATS}})
    )
    servable = serve(closing, path)
    feeds = {"b": np.ones(3, ml_dtypes.bfloat16), "x": np.ones(3, np.float32)}
    text = "the model has an input of a type that needs ml_dtypes, which is not installed"
    for _ in range(2):
        with pytest.raises(Internal, match=text):
            run_and_wait(servable, feeds, ["y"])


def test_memory_that_is_short_for_an_answer_is_told_and_the_process_started_again(
    tmp_path: Path, closing: ExitStack
):
    program = predicting(
        "return {'y': x if len(x) == 2 else Large()}",
        before="""
        class Large:
            def __array__(self, *args, **kwargs): raise MemoryError
        """,
    )
    servable = serve(closing, version(tmp_path, program))
    with pytest.raises(ResourceExhausted, match="more memory than its process may have"):
        ask(servable, 1)
    assert ask_again(servable, 1, 2) == [1, 2]


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
