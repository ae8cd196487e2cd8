"""Versions that are Python classes, for the tests of what runs them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from textwrap import dedent, indent

import numpy as np
import pytest
from waiting import await_

from serving.core.errors import DeadlineExceeded, ServingError, Unavailable
from serving.core.servable import Outputs, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.python_loader import PythonPlatform, PythonServable
from serving.loaders.python_options import PythonOptions

M1 = ServableId("m", 1)
FLOATS = {"dtype": "float", "shape": [None]}
ONE_EACH = json.dumps({"inputs": {"x": FLOATS}, "outputs": {"y": FLOATS}})


def predicting(body: str, before: str = "") -> str:
    """A ``model.py`` with x and y of floats, and this as the body of its ``predict``."""
    return (
        f"{dedent(before)}\n"
        "import ctypes, os, sys, threading, time\n"
        "import numpy as np\n\n"
        "class Model:\n"
        "    def predict(self, inputs):\n"
        "        x = inputs['x']\n" + indent(dedent(body).strip(), " " * 8) + "\n"
    )


DOUBLES = predicting("return {'y': 2 * x}")
CRASHES_BELOW_0 = predicting("if x[0] < 0: os._exit(1)\nreturn {'y': x}")
PID = predicting("return {'y': np.float32([os.getpid() // 1000, os.getpid() % 1000])}")


def version(folder: Path, program: str, **settings: object) -> str:
    """A directory with the program, a signature of x and y, and settings of its process."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.py").write_text(program)
    (folder / "signature.json").write_text(ONE_EACH)
    if settings:
        (folder / "worker.json").write_text(json.dumps(settings))
    return str(folder)


def loaded(path: str, servable_id: ServableId = M1) -> PythonServable:
    return PythonPlatform(PythonOptions(allow=True)).load(servable_id, path)


def ask(servable: PythonServable, *values: float) -> list[float]:
    """Y of these x."""
    (answer,) = answers(servable, *values)
    return answer.tolist()  # type: ignore[no-any-return]  # of floats


def answers(servable: PythonServable, *values: float) -> Outputs:
    return run_and_wait(servable, {"x": np.array(values, np.float32)}, ["y"])


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
