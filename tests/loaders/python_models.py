"""Versions that are Python classes, for the tests of what runs them."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent, indent

import numpy as np

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
