"""What is in a file of PyTorch's, before PyTorch reads it, and whether reading it is safe.

``torch.export.load`` unpickles, evaluates and compiles much of what it finds, so that a file can
run code of its own. What could is refused here, by lists of what is allowed: archives written by
``torch.export.save`` of torch 2.13 keep to them, but for what the texts of the errors name.
"""

from __future__ import annotations

import dataclasses
import io
import json
import math
import pickle
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch._export.serde import schema
from torch._export.serde.serialize import _bytes_to_dataclass

from serving.core.errors import InvalidArgument
from serving.loaders.pytorch_expression import is_expression

EXPORTED, SCRIPT, PICKLE = "an exported program", "a TorchScript program", "a pickle"
"""What a file of PyTorch's can be."""

_PROGRAM = "models/model.json"
_MOST_EXPANSION = 20  # of TorchScript, whose code is compressed; weights are not
_ALWAYS_ALLOWED_BYTES = 2**26
_MEMBERS = re.compile(
    r"archive_format|archive_version|version|byteorder|\.(data|format_version|storage_alignment).*"
    rf"|{re.escape(_PROGRAM)}|data/(weights|constants|sample_inputs)/\w[\w.]*|extra/.*"
)
_TENSOR = re.compile(r"(weight|tensor)_\d+")
"""What files with nothing but the bytes of a tensor are called."""
_NO_MEMBER = ("", "")
_RANGES = ("ExportedProgram", "range_constraints")
_RANGE = re.compile(r"(?!.*\d{7})[\w +*/().,-]*", re.ASCII)
_NAME = re.compile(r"[\w.]*", re.ASCII)
_OPERATOR = re.compile(
    r"torch\.ops\.(?!higher_order|load_library|import_module)[a-zA-Z]\w*(\.(?!__)\w+){2}"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|associative_scan|map_impl|invoke_subgraph"
    r"|wrap_with_set_grad_enabled|wrap_with_autocast|auto_functionalized(_v2)?|flex_attention"
    r"|out_dtype|strict_mode)"
    r"|torch\.sym_(float|int|ite|max|min|not|sqrt)|math\.trunc"
    r"|_operator\.(add|and_|eq|floordiv|ge|getitem|gt|le|lshift|lt|mod|mul|ne|neg|or_|pos|pow"
    r"|rshift|sub|truediv)",
    re.ASCII,
)
_FREE = frozenset(
    {
        ("Node", "metadata"),
        ("GraphModule", "metadata"),
        ("Argument", "as_string"),
        ("Argument", "as_strings"),
        ("ConstantValue", "as_string"),
        ("ExportedProgram", "torch_version"),
        ("ExportedProgram", "guards_code"),
    }
)
"""Classes of PyTorch's schema and their fields whose texts stay texts, or are passed over."""
_STRUCTURES = frozenset(
    {None, "builtins.tuple", "builtins.list", "builtins.dict", "collections.OrderedDict"}
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
    """Whether ``load_pt2`` may read this archive, read with the same reader.

    Raises InvalidArgument for one that would have it run anything but PyTorch's operators or is
    unpacked to more than its size, and what PyTorch and json raise for one that is damaged.
    """
    reader = _checked_reader(content, 1)
    for name in reader.get_all_records():
        if not _MEMBERS.fullmatch(name):
            raise _unsafe(f"has '{name}', which is not data")
        if name.endswith(".pt"):
            _check_pickle(name, reader.get_record(name))
        if name.endswith("_config.json"):
            _check_tensors(name, reader)
    program = _bytes_to_dataclass(schema.ExportedProgram, reader.get_record(_PROGRAM))
    _check_texts(program)


def check_script(content: BinaryIO) -> None:
    """Raises InvalidArgument for a TorchScript program that would fill memory when unpacked."""
    _checked_reader(content, _MOST_EXPANSION, _ALWAYS_ALLOWED_BYTES)


def _checked_reader(content: BinaryIO, factor: int, allowed_bytes: int = 0) -> Any:
    """A reader of all the archive. zipfile might see other members than PyTorch does."""
    limit = max(allowed_bytes, factor * content.seek(0, io.SEEK_END))
    content.seek(0)
    reader = torch._C.PyTorchFileReader(content)  # noqa: SLF001 - what PyTorch itself reads with
    size_bytes = sum(reader.get_record_size(name) for name in reader.get_all_records())
    if size_bytes > limit:
        raise InvalidArgument(
            f"the archive would be unpacked to {size_bytes} bytes; with its size, {limit} are "
            "the most that is loaded"
        )
    return reader


def _check_pickle(name: str, content: bytes) -> None:
    """Plain tensors and numbers may be pickled: those are read without running anything."""
    try:
        if content:
            _checked_reader(io.BytesIO(content), 1)
            torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:
        raise _unsafe(f"has a pickle in '{name}' that holds more than tensors") from error


def _check_tensors(name: str, reader: Any) -> None:
    config = _bytes_to_dataclass(schema.PayloadConfig, reader.get_record(name))
    _check_texts(config)
    for tensor, payload in config.config.items():
        if payload.use_pickle or not _TENSOR.fullmatch(payload.path_name):
            raise _unsafe(f"has '{tensor}' in '{name}', which is no plain tensor")
        record = f"{name.rpartition('/')[0]}/{payload.path_name}"
        sizes = [size.as_int for size in payload.tensor_meta.sizes]
        if math.prod(sizes) and not reader.get_record_size(record):
            raise InvalidArgument(f"the tensor '{tensor}' in '{name}' has a size, but no values")


def _check_texts(document: object) -> None:
    """``document`` is what PyTorch makes of JSON, by the classes of its schema."""
    for member, text in _texts(document, _NO_MEMBER):
        if member not in _FREE:
            _RULES.get(member, _check_name)(text)


def _texts(value: object, member: tuple[str, str]) -> Iterator[tuple[tuple[str, str], str]]:
    """Every text, with the class and the field that it is the value of; keys have none."""
    if isinstance(value, str):
        yield member, value
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item, member)
    elif isinstance(value, dict):
        for key, item in value.items():
            if member not in _FREE:
                yield (member if member == _RANGES else _NO_MEMBER), key
            yield from _texts(item, member)
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            inner = vars(value)[field.name]  # attributes that a union does not have raise
            yield from _texts(inner, (type(value).__name__, field.name))


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
            if not isinstance(key, int):
                _check_name(str(key))


def _check_size(text: str) -> None:
    """Sizes are evaluated as Python."""
    if not is_expression(text):
        raise _unsafe(f"has the size {text[:200]!r}")


def _unsafe(what: str) -> InvalidArgument:
    return InvalidArgument(
        f"the exported program {what}; it is not loaded, as it could run any code"
    )


def _check_range(text: str) -> None:
    """What has a range is looked up by its text, and counted up to where it is a symbol."""
    if not _RANGE.fullmatch(text):
        raise _unsafe(f"has a range of {text[:200]!r}")


_RULES: Mapping[tuple[str, str], Callable[[str], None]] = {
    _RANGES: _check_range,
    ("Node", "target"): _check_operator,
    ("Argument", "as_operator"): _check_operator,
    ("SymExpr", "expr_str"): _check_size,
    ("ModuleCallSignature", "in_spec"): _check_structure,
    ("ModuleCallSignature", "out_spec"): _check_structure,
}
"""How texts are checked that are more than names, by the class and field that they stand in."""
