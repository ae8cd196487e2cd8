"""``signature.json`` says what a model takes and gives, or is refused with the place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import TensorInfo
from serving.loaders.signature_file import DeclaredSignature, read_signature_file


def read(folder: Path, document: Any) -> DeclaredSignature:
    text = document if isinstance(document, str) else json.dumps(document)
    (folder / "signature.json").write_text(text)
    return read_signature_file(str(folder))


def test_inputs_and_outputs_come_in_the_files_order(tmp_path: Path):
    declared = read(
        tmp_path,
        {
            "inputs": {
                "z": {"dtype": "float", "shape": [None, 4]},
                "a": {"dtype": "string", "shape": [-1]},
            },
            "outputs": {"y": {"dtype": "int64"}},
        },
    )
    assert list(declared.inputs.items()) == [
        ("z", TensorInfo("z", DType.FLOAT, (None, 4))),
        ("a", TensorInfo("a", DType.STRING, (None,))),
    ]
    assert declared.outputs == {"y": TensorInfo("y", DType.INT64, None)}


def test_without_the_file_nothing_is_declared(tmp_path: Path):
    assert read_signature_file(str(tmp_path)) == DeclaredSignature()
    assert read(tmp_path, {"outputs": {"y": {"dtype": "bool"}}}).inputs is None


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("float64", DType.DOUBLE), ("float32", DType.FLOAT), ("str", DType.STRING)],
)
def test_numpys_names_of_types_are_known_too(tmp_path: Path, name: str, dtype: DType):
    declared = read(tmp_path, {"inputs": {"x": {"dtype": name}}})
    assert declared.inputs["x"].dtype is dtype


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "signature.json is no JSON: "),
        ("[" * 100_000, "signature.json is no JSON: "),
        ("1" * 5_000, "signature.json is no JSON: "),
        ([], "signature.json: it must be an object, not []"),
        ({"input": {}}, "signature.json: it may have inputs and outputs, not 'input'"),
        ({"inputs": {}}, "signature.json: inputs must be an object with a name for each"),
        ({"inputs": ["x"]}, "signature.json: inputs must be an object with a name for each"),
        ({"inputs": {"": {"dtype": "float"}}}, "signature.json: inputs must be an object with a"),
        (
            {"inputs": {"\ud800": {"dtype": "float"}}},
            'signature.json: inputs has a name that can not be written in UTF-8, "\\ud800"',
        ),
        ({"inputs": {"x": "float"}}, 'signature.json: inputs.x must be an object, not "float"'),
        ({"inputs": {"x": {}}}, "signature.json: inputs.x.dtype must be one of bfloat16, bool, "),
        (
            {"inputs": {"x": {"dtype": "float", "dims": []}}},
            "signature.json: inputs.x may have dtype and shape, not 'dims'",
        ),
        (
            {"outputs": {"y": {"dtype": "float", "shape": 4}}},
            "signature.json: outputs.y.shape must be a list of sizes, null for any size, not 4",
        ),
        (
            {"outputs": {"y": {"dtype": "float", "shape": [True]}}},
            "signature.json: outputs.y.shape must be a list of sizes, null for any size, not",
        ),
        (
            '{"inputs": {"x": {"dtype": "float"}, "x": {"dtype": "float"}}}',
            "signature.json: 'x' stands twice in one object",
        ),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, document: Any, message: str):
    with pytest.raises(InvalidArgument) as raised:
        read(tmp_path, document)
    assert raised.value.message.startswith(message)


def test_a_file_that_is_no_text_or_can_not_be_read_is_refused(tmp_path: Path):
    (tmp_path / "signature.json").write_bytes(b"\xff")
    with pytest.raises(InvalidArgument, match="is not UTF-8"):
        read_signature_file(str(tmp_path))
    (tmp_path / "signature.json").unlink()
    (tmp_path / "signature.json").mkdir()
    with pytest.raises(InvalidArgument, match="can not be read"):
        read_signature_file(str(tmp_path))
