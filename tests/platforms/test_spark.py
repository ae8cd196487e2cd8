"""Logistic regression of Spark MLlib, from files laid out as Spark writes them."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, ServedCase, served

from serving.core.dtypes import DType
from serving.core.errors import ServingError
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.platform_detection import platform_of

pytest.importorskip("pyarrow", reason="pyarrow is not installed")

import pyarrow
import pyarrow.parquet

from serving.loaders import spark_files
from serving.loaders.spark_loader import SparkPlatform

__all__ = ["served"]

M1 = ServableId("m", 1)
CLASS = "org.apache.spark.ml.classification.LogisticRegressionModel"
FEATURES = data.ASKED.astype(np.float64)
ONE = np.array([[1.0, -2.0, 0.5, 0.0]])
THREE = np.array([[1.0, 0.0, 0.5, 0.0], [0.0, 2.0, 0.0, 0.0], [-1.0, 0.0, 0.0, 3.0]])
PART = "data/part-00000-4f.snappy.parquet"
VECTOR = {"type": pyarrow.int8(), "size": pyarrow.int32()} | {
    "indices": pyarrow.list_(pyarrow.int32()),
    "values": pyarrow.list_(pyarrow.float64()),
}
MATRIX = {
    "type": pyarrow.int8(),
    "numRows": pyarrow.int32(),
    "numCols": pyarrow.int32(),
    "colPtrs": pyarrow.list_(pyarrow.int32()),
    "rowIndices": pyarrow.list_(pyarrow.int32()),
    "values": pyarrow.list_(pyarrow.float64()),
    "isTransposed": pyarrow.bool_(),
}
SCHEMA = pyarrow.schema(
    {
        "numClasses": pyarrow.int32(),
        "numFeatures": pyarrow.int32(),
        "interceptVector": pyarrow.struct(VECTOR),
        "coefficientMatrix": pyarrow.struct(MATRIX),
        "isMultinomial": pyarrow.bool_(),
    }
)


def dense(values: np.ndarray) -> dict[str, Any]:
    rows, columns = values.shape
    return {
        "type": 1,
        "numRows": rows,
        "numCols": columns,
        "values": values.ravel().tolist(),
        "isTransposed": True,
    }


def by_columns(values: np.ndarray) -> dict[str, Any]:
    """A sparse matrix, column by column."""
    columns, rows = np.nonzero(values.T)
    counts = np.bincount(columns, minlength=values.shape[1])
    return {
        "type": 0,
        "numRows": values.shape[0],
        "numCols": values.shape[1],
        "colPtrs": [0, *np.cumsum(counts).tolist()],
        "rowIndices": rows.tolist(),
        "values": values[rows, columns].tolist(),
        "isTransposed": False,
    }


def row(values: np.ndarray, intercepts: list[float], **changed: Any) -> dict[str, Any]:
    return {
        "numClasses": max(2, len(values)),
        "numFeatures": values.shape[1],
        "interceptVector": {"type": 1, "values": intercepts},
        "coefficientMatrix": dense(values),
        "isMultinomial": len(values) > 1,
        **changed,
    }


def write(directory: Path, values: Mapping[str, Any], schema: Any = SCHEMA, **set_: Any) -> None:
    metadata = {"class": CLASS, "paramMap": set_, "defaultParamMap": {"threshold": 0.5}}
    (directory / "metadata").mkdir()
    (directory / "metadata" / "part-00000").write_text(json.dumps(metadata) + "\n")
    (directory / "metadata" / "_SUCCESS").write_text("")
    (directory / "data").mkdir()
    table = pyarrow.Table.from_pylist([dict(values)], schema)
    pyarrow.parquet.write_table(table, directory / PART)


def softmax(margins: np.ndarray) -> np.ndarray:
    return np.exp(margins) / np.exp(margins).sum(axis=1, keepdims=True)


def write_one(directory: Path) -> Mapping[str, np.ndarray]:
    write(directory, row(ONE, [0.25]))
    margin = FEATURES @ ONE[0] + 0.25
    likely = 1 / (1 + np.exp(-margin))
    return {
        "prediction": (likely > 0.5).astype(np.float64),
        "probability": np.column_stack([1 - likely, likely]),
        "rawPrediction": np.column_stack([-margin, margin]),
    }


def write_three(directory: Path) -> Mapping[str, np.ndarray]:
    write(directory, row(THREE, [0.1, 0.2, -0.3]))
    margins = FEATURES @ THREE.T + [0.1, 0.2, -0.3]
    return {
        "prediction": margins.argmax(axis=1).astype(np.float64),
        "probability": softmax(margins),
        "rawPrediction": margins,
    }


CASES = [
    PlatformCase("two classes", "spark", PART, write_one, {"features": FEATURES}, tolerance=1e-12),
    PlatformCase(
        "three classes", "spark", PART, write_three, {"features": FEATURES}, tolerance=1e-12
    ),
]


class TestSpark(PlatformTests):
    """Models of two classes and of more."""

    def test_a_metadata_file_that_is_damaged_is_refused(self, case: PlatformCase, tmp_path: Path):
        case.write(tmp_path)
        file = tmp_path / "metadata" / "part-00000"
        whole = file.read_bytes()
        for content in (whole[:40], b"", b"[]", b"{}", b"\x00" * 9, b"x" * 2**21, b"[" * 99999):
            file.write_bytes(content)
            with pytest.raises(ServingError, match="metadata"):
                case.load(tmp_path)

    def test_sparse_rows_are_answered_over_rest_and_in_batches_with_others(
        self, served: ServedCase
    ):
        body = {
            "signature_name": "libsvm",
            "inputs": {
                "indices": [[3, 0, 2, 1], [0, 1, 2, 3]],
                "values": [FEATURES[0, [3, 0, 2, 1]].tolist(), FEATURES[1].tolist()],
            },
        }
        for model in ("alone", "pairs"):
            status, document = served.rest(model, body)
            assert status == 200, document
            served.check(document["outputs"])


def load(path: Path) -> Any:
    return SparkPlatform().load(M1, str(path))


def answer(path: Path, fetch: str, features: np.ndarray = FEATURES) -> np.ndarray:
    (found,) = run_and_wait(load(path), {"features": features}, [fetch])
    return found


def refusal(path: Path) -> str:
    with pytest.raises(ServingError) as raised:
        load(path)
    return str(raised.value)


def test_the_signatures_take_vectors_and_sparse_rows(tmp_path: Path):
    write_three(tmp_path)
    signatures = load(tmp_path).signatures
    assert signatures[DEFAULT_SIGNATURE].inputs == {
        "features": TensorInfo("features", DType.DOUBLE, (None, 4))
    }
    assert signatures["libsvm"].inputs == {
        "indices": TensorInfo("indices", DType.INT64, (None, None)),
        "values": TensorInfo("values", DType.DOUBLE, (None, None)),
    }
    outputs = {
        "prediction": TensorInfo("prediction", DType.DOUBLE, (None,)),
        "probability": TensorInfo("probability", DType.DOUBLE, (None, 3)),
        "rawPrediction": TensorInfo("rawPrediction", DType.DOUBLE, (None, 3)),
    }
    assert signatures[DEFAULT_SIGNATURE].outputs == signatures["libsvm"].outputs == outputs


def test_sparse_rows_are_answered_as_the_vectors_that_they_stand_for(tmp_path: Path):
    write_three(tmp_path)
    feeds = {
        "indices": np.array([[2, 0, -1], [3, -1, -1]]),
        "values": np.array([[0.5, 7.0, 99.0], [-2.0, 0.0, 1.0]]),
    }
    (found,) = run_and_wait(load(tmp_path), feeds, ["rawPrediction"])
    vectors = np.array([[7.0, 0.0, 0.5, 0.0], [0.0, 0.0, 0.0, -2.0]])
    np.testing.assert_allclose(found, answer(tmp_path, "rawPrediction", vectors), 1e-12)


def test_sparse_rows_take_memory_for_what_they_have_only(tmp_path: Path):
    """Four rows of 2**20 features each, as vectors, are 32 MiB."""
    wide = {**by_columns(ONE), "numCols": 2**20, "colPtrs": [0, 1, 2] + [3] * (2**20 - 2)}
    write(tmp_path, row(ONE, [0.25], numFeatures=2**20, coefficientMatrix=wide))
    servable = load(tmp_path)
    feeds = {"indices": np.array([[0], [1], [2], [2**20 - 1]]), "values": np.ones((4, 1))}
    tracemalloc.start()
    try:
        (found,) = run_and_wait(servable, feeds, ["rawPrediction"])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    np.testing.assert_allclose(found[:, 1], [1.25, -1.75, 0.75, 0.25])
    assert most < 2**20


@pytest.mark.parametrize(
    ("indices", "values", "message"),
    [
        ([[4]], [[1.0]], "'indices' must be from 0 to 3, and -1 for none, not 4"),
        ([[-2]], [[1.0]], "'indices' must be from 0 to 3, and -1 for none, not -2"),
        ([[0, 1]], [[1.0]], "'indices' and 'values' must have the same shape"),
        ([0], [1.0], "input 'indices' must have the shape [?,?], not [1]"),
    ],
)
def test_sparse_rows_that_fit_no_model_are_refused(
    tmp_path: Path, indices: Any, values: Any, message: str
):
    write_one(tmp_path)
    feeds = {"indices": np.array(indices), "values": np.array(values)}
    with pytest.raises(ServingError) as raised:
        run_and_wait(load(tmp_path), feeds, ["prediction"])
    assert raised.value.message == message


def test_thresholds_move_the_prediction_as_in_spark(tmp_path: Path):
    likely = write_one(tmp_path)["probability"][:, 1]
    for name, set_ in {"one": {"threshold": 0.9}, "two": {"thresholds": [0.1, 0.9]}}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, row(ONE, [0.25]), **set_)
        np.testing.assert_array_equal(answer(tmp_path / name, "prediction"), likely > 0.9)
    (tmp_path / "three").mkdir()
    write(tmp_path / "three", row(THREE, [0.1, 0.2, -0.3]), thresholds=[0.9, 0.9, 0.0])
    np.testing.assert_array_equal(answer(tmp_path / "three", "prediction"), [2, 2])


def test_sparse_and_turned_matrices_are_the_same_model(tmp_path: Path):
    expected = write_three(tmp_path)["rawPrediction"]
    turned = {**dense(THREE), "values": THREE.T.ravel().tolist(), "isTransposed": False}
    for name, matrix in {"sparse": by_columns(THREE), "turned": turned}.items():
        (tmp_path / name).mkdir()
        write(tmp_path / name, row(THREE, [0.1, 0.2, -0.3], coefficientMatrix=matrix))
        np.testing.assert_allclose(answer(tmp_path / name, "rawPrediction"), expected, 1e-12)


def test_what_spark_2_0_wrote_is_read(tmp_path: Path):
    expected = write_one(tmp_path)["probability"]
    schema = pyarrow.schema(
        {
            "numClasses": pyarrow.int32(),
            "numFeatures": pyarrow.int32(),
            "intercept": pyarrow.float64(),
            "coefficients": pyarrow.struct(VECTOR),
        }
    )
    sparse = {"type": 0, "size": 4, "indices": [0, 1, 2], "values": [1.0, -2.0, 0.5]}
    values = {"numClasses": 2, "numFeatures": 4, "intercept": 0.25, "coefficients": sparse}
    (tmp_path / "old").mkdir()
    write(tmp_path / "old", values, schema)
    np.testing.assert_allclose(answer(tmp_path / "old", "probability"), expected, 1e-12)


def test_columns_are_called_as_the_model_says_and_one_without_a_name_is_not_made(tmp_path: Path):
    write(tmp_path, row(ONE, [0.25]), featuresCol="x", predictionCol="y", rawPredictionCol="")
    signature = load(tmp_path).signatures[DEFAULT_SIGNATURE]
    assert (list(signature.inputs), list(signature.outputs)) == (["x"], ["y", "probability"])


def test_a_margin_that_is_out_of_range_is_certain_and_no_warning(tmp_path: Path):
    write(tmp_path, row(ONE * 1000, [0.0]))
    found = answer(tmp_path, "probability", np.array([[-9.0, 0, 0, 0], [9.0, 0, 0, 0]]))
    np.testing.assert_array_equal(found, [[1, 0], [0, 1]])


@pytest.mark.parametrize(
    "changed",
    [
        {"numFeatures": 5},
        {"numClasses": 4},
        {"interceptVector": {"type": 1, "values": [1.0]}},
        {"coefficientMatrix": {**dense(THREE), "numRows": 9}},
        {"coefficientMatrix": {**by_columns(THREE), "rowIndices": [9] * 5}},
        {"coefficientMatrix": None},
    ],
)
def test_numbers_that_do_not_fit_together_are_refused(tmp_path: Path, changed: Any):
    write(tmp_path, row(THREE, [0.1, 0.2, -0.3], **changed))
    assert refusal(tmp_path).startswith("INVALID_ARGUMENT: the model's files are not those of a")


def vector_of(size: int) -> dict[str, Any]:
    return {"type": 0, "size": size, "indices": [], "values": []}


@pytest.mark.parametrize(
    "changed",
    [
        {"coefficientMatrix": {**by_columns(ONE), "numCols": 60_000_000}},
        {"coefficientMatrix": {**by_columns(ONE), "numRows": 2**31 - 1, "numCols": 2**31 - 1}},
        {"coefficientMatrix": {**by_columns(ONE), "numRows": 0, "numCols": 2**31 - 1}},
        {"interceptVector": vector_of(2**31 - 1)},
        {"coefficientMatrix": {**dense(ONE), "values": [0.0] * (2**23 + 1)}},
    ],
    ids=["wide", "wide and high", "wide and empty", "vector", "equal numbers"],
)
def test_a_small_file_of_a_large_model_is_refused_before_there_is_memory_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changed: Any
):
    write(tmp_path, row(ONE, [0.0], **changed))
    assert (tmp_path / PART).stat().st_size < 2**20
    monkeypatch.setattr(spark_files.np, "zeros", lambda _: pytest.fail("memory was taken"))
    assert "numbers, which is more than a file of this size has" in refusal(tmp_path)


@pytest.mark.parametrize("pointers", [[0, 2**31 - 1, 0, 0, 2], [0, 1, 2, 2, 2**31 - 1]])
def test_columns_of_more_values_than_there_are_are_refused(tmp_path: Path, pointers: list[int]):
    sparse = {**by_columns(ONE), "colPtrs": pointers}
    write(tmp_path, row(ONE, [0.0], coefficientMatrix=sparse))
    assert "the columns do not have as many values" in refusal(tmp_path)


def test_another_model_of_spark_is_named_with_what_it_can_be_exported_to(tmp_path: Path):
    write_one(tmp_path)
    file = tmp_path / "metadata" / "part-00000"
    file.write_text(file.read_text().replace(CLASS, "org.apache.spark.ml.PipelineModel"))
    assert refusal(tmp_path).startswith(
        "UNIMPLEMENTED: a model of Spark of the class org.apache.spark.ml.PipelineModel is not"
    )


def test_it_is_told_from_its_folders(tmp_path: Path):
    write_one(tmp_path)
    assert platform_of(str(tmp_path)) == "spark"
