"""Modules of a package, imported without the package's own code being run."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from types import ModuleType


@contextmanager
def bare_package(name: str) -> Iterator[None]:
    """Imports inside of modules below the top-level package ``name`` leave its ``__init__`` out.

    TensorFlow's message classes are such modules: they take a tenth of a second, the package
    seconds. Whoever imports the package afterwards gets all of it, with the same classes. Does
    nothing where it has been imported or is not installed. Not thread-safe: another thread that
    imports the package meanwhile would see it empty, so enter this before there are threads.
    """
    spec = None if name in sys.modules else find_spec(name)
    if spec is None:
        yield
        return
    sys.modules[name] = module_from_spec(spec)
    try:
        yield
    finally:
        del sys.modules[name]


def import_alone(module: str) -> ModuleType:
    """The module, without the code of its top-level package; taken if imported before."""
    if module in sys.modules:
        return sys.modules[module]
    with bare_package(module.partition(".")[0]):
        return import_module(module)
