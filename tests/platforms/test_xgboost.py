"""XGBoost's JSON and UBJSON are served as XGBoost answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.platform_detection import platform_of

pytest.importorskip("xgboost", reason="xgboost is not installed")

import xgboost

from serving.loaders.native_options import NativeOptions
from serving.loaders.xgboost_loader import XGBoostPlatform

__all__ = ["served"]

M1 = ServableId("m", 1)
SOFTPROB = {"objective": "multi:softprob", "num_class": 3}
LINEAR = {"objective": "reg:squarederror", "booster": "gblinear"}


def trained(parameters: Mapping[str, object]) -> xgboost.Booster:
    label = data.CLASSES if parameters is SOFTPROB else data.VALUES
    return xgboost.train(dict(parameters), xgboost.DMatrix(data.ROWS, label), 5)


def writing(
    file: str, parameters: Mapping[str, object] = SOFTPROB
) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        booster = trained(parameters)
        kind = "json" if file.endswith(".json") else "ubj"
        (directory / file).write_bytes(booster.save_raw(kind))
        return {"predict": booster.predict(xgboost.DMatrix(data.ASKED))}

    return write


INPUTS = {"x": data.ASKED}
case = partial(PlatformCase, options=NativeOptions(probe=False))
"""Without a process for each damaged file: test_native_crashes.py has what needs one."""

CASES = [
    case("json", "xgboost", "model.json", writing("model.json"), INPUTS),
    case("ubj", "xgboost", "model.ubj", writing("model.ubj"), INPUTS),
    case("bst", "xgboost", "any.bst", writing("any.bst"), INPUTS),
    case("linear", "xgboost", "m.model", writing("m.model", LINEAR), INPUTS),
]


class TestXGBoost(PlatformTests):
    """Trees in three kinds of files, and a linear model."""


def test_the_signature_has_the_models_features(tmp_path: Path):
    writing("model.json")(tmp_path)
    signature = XGBoostPlatform().load(M1, str(tmp_path)).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, (None, 4))}
    assert signature.outputs == {"predict": TensorInfo("predict", DType.FLOAT, (None, 3))}


def test_a_signature_file_names_and_types_the_tensors(tmp_path: Path):
    writing("model.json")(tmp_path)
    (tmp_path / "signature.json").write_text(
        '{"inputs": {"rows": {"dtype": "double", "shape": [null, 4]}},'
        ' "outputs": {"predict": {"dtype": "half", "shape": [null, 3]}}}'
    )
    assert platform_of(str(tmp_path)) == "xgboost"
    signature = XGBoostPlatform().load(M1, str(tmp_path)).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"rows": TensorInfo("rows", DType.DOUBLE, (None, 4))}
    assert signature.outputs["predict"].dtype is DType.HALF


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            '{"inputs": {"x": {"dtype": "float", "shape": [null, 5]}}}',
            "signature.json: inputs must be one, of numbers, of the shape [null, 4], as the model "
            "has 4 features",
        ),
        (
            '{"inputs": {"x": {"dtype": "string", "shape": [null, 4]}}}',
            "signature.json: inputs must be one, of numbers, of the shape [null, 4], as the model "
            "has 4 features",
        ),
        (
            '{"outputs": {"score": {"dtype": "float"}}}',
            "signature.json: outputs.score is none of the model's, which are predict",
        ),
    ],
)
def test_a_signature_file_that_is_not_the_models_is_refused(
    tmp_path: Path, signature: str, message: str
):
    writing("model.json")(tmp_path)
    (tmp_path / "signature.json").write_text(signature)
    with pytest.raises(InvalidArgument) as raised:
        XGBoostPlatform().load(M1, str(tmp_path))
    assert raised.value.message == message


@pytest.mark.parametrize("bracket", [b"[", b'{"learner":', b'{"\\"{": ['])
def test_a_document_of_too_many_levels_is_refused(tmp_path: Path, bracket: bytes):
    """XGBoost's reader would end the process."""
    (tmp_path / "model.json").write_bytes(b'{"learner":' + bracket * 60_000)
    assert platform_of(str(tmp_path)) == "xgboost"
    with pytest.raises(InvalidArgument) as raised:
        XGBoostPlatform().load(M1, str(tmp_path))
    assert raised.value.message == ("model.json is no model of XGBoost: it has more than 64 levels")


@pytest.mark.parametrize("content", [b"{", b"{ ", b"{N", b"{S", b"{[" + b"[" * 60_000, b"{\x00"])
def test_what_is_neither_json_nor_whole_ubjson_is_not_read(tmp_path: Path, content: bytes):
    (tmp_path / "model.ubj").write_bytes(content)
    with pytest.raises(InvalidArgument) as raised:
        XGBoostPlatform().load(M1, str(tmp_path))
    assert raised.value.message == "model.ubj is no whole model of XGBoost: it is cut short"


def test_a_file_in_none_of_the_formats_is_refused(tmp_path: Path):
    (tmp_path / "model.bst").write_bytes(b"bs64\x00\x00\x00\x3f" + bytes(200))
    with pytest.raises(InvalidArgument) as raised:
        XGBoostPlatform().load(M1, str(tmp_path))
    assert raised.value.message == (
        "model.bst is no model of XGBoost: it is neither JSON nor UBJSON, nor does it begin as its "
        "binary format"
    )


def test_it_must_be_clear_which_file_is_the_model(tmp_path: Path):
    for name in ("a.ubj", "b.json"):
        writing(name)(tmp_path)
    with pytest.raises(NotFound, match="but there are 2"):
        XGBoostPlatform().estimate(str(tmp_path))
    writing("model.ubj")(tmp_path)
    size_bytes = (tmp_path / "model.ubj").stat().st_size
    estimate = XGBoostPlatform().estimate(str(tmp_path))
    assert estimate == estimate.ram(3 * size_bytes)


def test_a_gpu_is_refused(tmp_path: Path):
    writing("model.json")(tmp_path)
    with pytest.raises(FailedPrecondition, match="gpu:0"):
        XGBoostPlatform().load(M1, str(tmp_path), Device("gpu"))
