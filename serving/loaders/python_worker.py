"""The process in which a user's own Python class runs: it loads ``model.py`` and answers runs.

Imports numpy and its two neighbours alone: the interpreter may be another than the server's.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import socket
import sys
import traceback
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from serving.loaders.python_frames import Frame, Parts, encoded, receive, send

_MOST_TEXT = 1000  # characters of a reason that clients see


class _NotLoaded(Exception):
    """Why the model is not served, in words for clients."""


def main(arguments: Sequence[str]) -> None:
    """Serve the model of a version directory over the socket that was inherited.

    ``arguments``: the socket's number, the directory, and the most bytes of address space, 0 for
    any number.
    """
    sys.path.pop(0)  # the server's own, which the model has nothing to do with
    number, directory, most_bytes = arguments
    os.set_inheritable(int(number), False)
    os.dup(int(number))  # so that the other end sees this one closed when the process has ended
    if int(most_bytes):
        resource.setrlimit(resource.RLIMIT_AS, (int(most_bytes), int(most_bytes)))
    with socket.socket(fileno=int(number)) as connection:
        try:
            model = _loaded(directory)
            declared = _declared(model)
        except _NotLoaded as error:
            send(connection, _without_arrays("not loaded", str(error)))
            sys.exit(1)
        send(connection, _without_arrays("loaded", declared))
        _serve(model, connection)
    if hasattr(model, "unload"):
        model.unload()


def _loaded(directory: str) -> Any:
    """An instance of the class, after its ``load``. What fails is printed with its trace."""
    sys.dont_write_bytecode = True  # which would change the version's directory
    sys.path.insert(0, directory)
    step = "can not be imported"
    try:
        spec = importlib.util.spec_from_file_location("model", Path(directory, "model.py"))
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules["model"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not callable(getattr(getattr(module, "Model", None), "predict", None)):
            raise _NotLoaded("has no class Model with a method predict")
        step = "can not be loaded"
        model = module.Model()
        if hasattr(model, "load"):
            model.load(directory)
        return model
    except _NotLoaded:
        raise
    except Exception as error:
        traceback.print_exc()
        raise _NotLoaded(f"{step}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Texts that are meant for others, and of the rest no more than the type."""
    name = type(error).__name__
    if isinstance(error, SyntaxError):
        return f"{error.msg} (line {error.lineno})"
    if isinstance(error, ModuleNotFoundError):
        return f"it needs {error.name}, which is not installed"
    if isinstance(error, ValueError):
        return f"{name}: {str(error)[:_MOST_TEXT]}"
    return f"{name}, which the log shows"


def _declared(model: Any) -> str:
    """What its attributes say of inputs and outputs, as the text of a ``signature.json``."""
    roles = ("inputs", "outputs")
    declared = {role: getattr(model, role) for role in roles if hasattr(model, role)}
    try:
        return json.dumps(declared)
    except (TypeError, ValueError) as error:
        raise _NotLoaded(f"has inputs or outputs that JSON can not say: {error}") from error


def _serve(model: Any, connection: socket.socket) -> None:
    """Answer runs until the server is gone, or wants no more."""
    while True:
        try:
            asked = receive(connection)
        except (EOFError, OSError):
            return
        except MemoryError:
            traceback.print_exc()
            answer = _NO_MEMORY
        except ModuleNotFoundError as error:
            text = f"has an input of a type that needs {error.name}, which is not installed"
            answer = _without_arrays("wrong", text)
        else:
            answer = _answer(model, asked)
        with suppress(BrokenPipeError):  # then the server is gone, as the next look tells
            send(connection, answer)
        if answer is _NO_MEMORY:
            # What filled the memory fills it still; a process that starts anew has all of it.
            os._exit(1)


def _answer(model: Any, asked: Frame) -> Parts:
    try:
        return _outputs(model.predict(dict(asked.arrays)), asked.fields["fetches"])
    except MemoryError:
        traceback.print_exc()
        return _NO_MEMORY
    except ValueError as error:
        return _without_arrays("refused", str(error)[:_MOST_TEXT])
    except Exception:  # noqa: BLE001 - whatever a model raises ends the run, and not the process
        traceback.print_exc()
        return _without_arrays("failed")


def _outputs(answered: Any, fetches: Sequence[str]) -> Parts:
    if not isinstance(answered, Mapping):
        kind = type(answered).__name__
        return _without_arrays("wrong", f"answered {kind}, not a mapping of outputs")
    if missing := [name for name in fetches if name not in answered]:
        return _without_arrays("wrong", f"answered no output '{missing[0]}'")
    arrays: dict[str, np.ndarray] = {}
    try:
        for name in fetches:
            arrays[name] = np.asarray(answered[name])
        return encoded(Frame({"outcome": "done"}, arrays))
    except ValueError:  # numpy's, of rows that are not alike
        return _without_arrays("wrong", f"answered an output '{name}' that is no array")
    except TypeError as error:
        return _without_arrays("wrong", f"answered no tensor: {error}")


def _without_arrays(outcome: str, text: str = "") -> Parts:
    return encoded(Frame({"outcome": outcome, "text": text}, {}))


_NO_MEMORY = _without_arrays("no memory")
