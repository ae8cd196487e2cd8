"""The program that a Python model's own interpreter runs."""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from serving.loaders import python_process, python_worker

OLDEST = (3, 8)
NO_SUBSCRIPTS = {"collections", "collections.abc", "contextlib", "os", "re", "subprocess"}


def trees(*modules: str) -> Iterator[tuple[str, ast.Module]]:
    """Of these modules, and of this program's own that they import."""
    found: set[str] = set()
    left = list(modules)
    while left:
        if (name := left.pop()) in found:
            continue
        found.add(name)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(), feature_version=OLDEST)
        yield name, tree
        imports = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        left += [module for module in imports if module.startswith("serving.")]


def computed(node: ast.AST) -> Iterator[ast.AST]:
    """The parts of a module, without the annotations, which nothing computes."""
    yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from computed(child)


def test_an_interpreter_as_old_as_documented_can_run_it():
    """Python 3.8 has no ``list[int]``, and neither of a class of ``collections.abc``."""
    started_by = python_process.child_command.__module__
    for name, tree in trees(started_by, python_worker.__name__):
        classes = {"dict", "frozenset", "list", "set", "tuple", "type"}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module in NO_SUBSCRIPTS:
                classes |= {each.name for each in node.names}
        for node in computed(tree):
            if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name):
                assert node.value.id not in classes, f"{name}, line {node.lineno}"
