"""What is in a file of PyTorch's, before PyTorch reads it, and whether reading it is safe.

``torch.export.load`` unpickles, evaluates and compiles much of what it finds, so that a file can
run code of its own. What could is refused here, by lists of what is allowed: archives written by
``torch.export.save`` of torch 2.13 keep to them, but for what the texts of the errors name.
"""

from __future__ import annotations

import ast
import io
import json
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from serving.core.errors import InvalidArgument

EXPORTED, SCRIPT, PICKLE = "an exported program", "a TorchScript program", "a pickle"
"""What a file of PyTorch's can be."""

_PROGRAM = "models/model.json"
_MEMBERS = re.compile(
    r"archive_format|archive_version|version|byteorder|\.(data|format_version|storage_alignment).*"
    rf"|{re.escape(_PROGRAM)}|data/(weights|constants|sample_inputs)/\w[\w.]*|extra/.*"
)
_TENSOR = re.compile(r"(weight|tensor)_\d+")
"""What files with nothing but the bytes of a tensor are called."""
_NAME = re.compile(r"[\w.]*", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.(?!load_library|import_module)[a-zA-Z]\w*(\.(?!__)\w+){1,2}"
    r"|torch\.sym_(float|int|ite|max|min|not|sqrt)|math\.trunc"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow"
    r"|rshift|sub|truediv)",
    re.ASCII,
)
_FREE = frozenset({"metadata", "guards_code", "as_string", "as_strings", "torch_version"})
"""Members that are never evaluated: they become texts, or are passed over."""
_STRUCTURES = frozenset(
    {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
)
_FUNCTION = re.compile(
    "Symbol|Integer|Float|Rational|Add|Mul|Pow|Max|Min|Abs|Mod|floor|ceiling|And|Or|Not|Eq|Ne|Lt|Le"
    "|Gt|Ge|Equality|Unequality|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan|FloorDiv"
    "|ModularIndexing|Where|PythonMod|CleanDiv|CeilToInt|FloorToInt|CeilDiv|LShift|RShift"
    "|PowByNatural|FloatPow|FloatTrueDiv|IntTrueDiv|IsNonOverlappingAndDenseIndicator|TruncToFloat"
    "|TruncToInt|RoundToInt|RoundDecimal|ToFloat|Identity"
)
"""What sizes may be made with: sympy's numbers and symbols, and what PyTorch adds to them."""
_SYMBOL = re.compile(r"[a-z]{1,3}\d+|oo|int_oo|True|False", re.ASCII)
_SYNTAX = (
    *(ast.Expression, ast.Load, ast.keyword, ast.BinOp, ast.operator, ast.UnaryOp, ast.unaryop),
    *(ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop),
)


def kind_of(file: Path) -> str | None:
    """What the file is by its content; None for what nothing of PyTorch's has written.

    Raises OSError.
    """
    with file.open("rb") as content:
        if not zipfile.is_zipfile(content):
            content.seek(0)
            return PICKLE if content.read(1) == pickle.PROTO else None
        try:
            members = zipfile.ZipFile(content).infolist()
        except (zipfile.BadZipFile, ValueError, NotImplementedError):
            return None
    if not members or members[0].header_offset:  # one that is cut short can end with one inside
        return None
    names = {member.filename.partition("/")[2] for member in members}
    if "constants.pkl" in names:
        return SCRIPT
    if "data.pkl" in names:
        return PICKLE
    return EXPORTED if _PROGRAM in names else None


def check_exported(content: BinaryIO) -> None:
    """Whether ``torch.export.load`` may read this archive, read with the same reader.

    Raises InvalidArgument for one that would have it run anything but PyTorch's operators, and what
    PyTorch and json raise for one that is damaged.
    """
    reader = torch._C.PyTorchFileReader(content)  # noqa: SLF001 - zipfile might see other members
    names = reader.get_all_records()
    for name in names:
        if not _MEMBERS.fullmatch(name):
            raise _unsafe(f"has '{name}', which is not data")
        if name.endswith(".pt"):
            _check_pickle(name, reader.get_record(name))
        if name.endswith("_config.json"):
            _check_tensors(name, json.loads(reader.get_record(name)))
    for key, text in _texts(json.loads(reader.get_record(_PROGRAM))):
        _RULES.get(key, _check_name)(text)


def _check_pickle(name: str, content: bytes) -> None:
    """Plain tensors and numbers may be pickled: those are read without running anything."""
    try:
        if content:
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _unsafe(f"has a pickle in '{name}' that holds more than tensors") from error


def _check_tensors(name: str, config: Mapping[str, Any]) -> None:
    for tensor, payload in config["config"].items():
        if payload["use_pickle"] or not _TENSOR.fullmatch(payload["path_name"]):
            raise _unsafe(f"has '{tensor}' in '{name}', which is no plain tensor")


def _texts(document: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text in a JSON document that may be evaluated, with the name of its member."""
    if isinstance(document, str):
        yield key, document
    elif isinstance(document, list):
        for item in document:
            yield from _texts(item, key)
    elif isinstance(document, dict):
        for name, value in document.items():
            if name not in _FREE:
                yield from _texts(value, name)


def _check_name(text: str) -> None:
    """Names become a part of Python code that PyTorch compiles."""
    if not _NAME.fullmatch(text):
        raise _unsafe(f"has the name {text!r}")


def _check_operator(text: str) -> None:
    """Any function that can be found from ``torch`` would be called as well."""
    if not _OPERATOR.fullmatch(text):
        raise _unsafe(f"calls {text!r}, which is no operator of PyTorch's")


def _check_structure(text: str) -> None:
    """How inputs or outputs are nested; other classes are imported by their names."""
    nodes = [json.loads(text)[1]]
    while nodes:
        node = nodes.pop()
        if node["type"] not in _STRUCTURES:
            raise _unsafe(f"takes or gives {node['type']!r}, which is no tuple, list or dict")
        nodes.extend(node["children_spec"])
        for key in json.loads(node["context"] or "null") or ():
            if isinstance(key, str):
                _check_name(key)


def _check_expression(text: str) -> None:
    """Sizes are evaluated as Python."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval")))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        nodes = [ast.Pass()]
    if not all(_is_arithmetic(node) for node in nodes):
        raise _unsafe(f"has the size {text[:200]!r}")


def _is_arithmetic(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and _is_function(node.func)
    if isinstance(node, ast.Name):
        return _is_function(node) or _SYMBOL.fullmatch(node.id) is not None
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or _NAME.fullmatch(node.value) is not None
    return isinstance(node, _SYNTAX)


def _is_function(name: ast.Name) -> bool:
    return _FUNCTION.fullmatch(name.id) is not None


def _unsafe(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"the exported program {what}; it is not loaded, as it could run any code"
    )


_RULES: Mapping[str, Callable[[str], None]] = {
    "target": _check_operator,
    "as_operator": _check_operator,
    "expr_str": _check_expression,
    "in_spec": _check_structure,
    "out_spec": _check_structure,
}
"""How texts are checked that are more than names, by the names of their members."""
