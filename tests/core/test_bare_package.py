"""Modules are imported without the code of their package, which is none the worse for it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.core.bare_package import bare_package, import_alone


@pytest.fixture
def package(tmp_path: Path) -> Iterator[str]:
    """``slow_package``, which says in ``sys.modules`` that it has run, with ``messages`` in it."""
    folder = tmp_path / "slow_package" / "core"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("from slow_package.core import messages\nran = 1\n")
    (folder / "__init__.py").write_text("")
    (folder / "messages.py").write_text("class Message: pass\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(tmp_path)
        yield "slow_package"
    for name in [name for name in sys.modules if name.startswith("slow_package")]:
        del sys.modules[name]


def test_the_package_is_not_run_and_complete_once_it_is_imported(package: str):
    with bare_package(package):
        messages = importlib.import_module("slow_package.core.messages")
    assert package not in sys.modules

    imported = importlib.import_module(package)
    assert imported.ran
    assert imported.messages is messages


def test_a_package_that_has_been_imported_stays(package: str):
    imported = importlib.import_module(package)
    with bare_package(package):
        assert sys.modules[package] is imported
    assert sys.modules[package] is imported


def test_a_package_that_is_not_installed_fails_as_it_would():
    with bare_package("no_such_package"), pytest.raises(ModuleNotFoundError):
        importlib.import_module("no_such_package.messages")


def test_an_error_inside_leaves_no_empty_package_behind(package: str):
    with pytest.raises(ModuleNotFoundError), bare_package(package):
        importlib.import_module("slow_package.no_such_module")
    assert importlib.import_module(package).ran


def test_one_module_is_imported_alone_and_taken_where_it_has_been(package: str):
    messages = import_alone("slow_package.core.messages")
    assert package not in sys.modules
    assert import_alone("slow_package.core.messages") is messages
    assert package not in sys.modules
