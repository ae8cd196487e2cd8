"""PMML documents are served as PMML4S computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId

pytest.importorskip("jpype", reason="jpype1 is not installed")
pytest.importorskip("java_needed", reason="Java is not installed")
pytest.importorskip("pypmml", reason="pypmml is not installed")

import jpype

from serving.loaders.jvm import java, java_classes
from serving.loaders.jvm_options import JvmOptions
from serving.loaders.pmml_loader import PmmlPlatform

__all__ = ["served"]

M1 = ServableId("m", 1)
MISSING = np.iinfo(np.int64).min

PRICE = """<?xml version="1.0" encoding="UTF-8"?>
<PMML version="4.2" xmlns="http://www.dmg.org/PMML-4_2">
  <Header copyright="none"/>
  <DataDictionary>
    <DataField name="size" optype="continuous" dataType="double"/>
    <DataField name="rooms" optype="continuous" dataType="integer"/>
    <DataField name="color" optype="categorical" dataType="string">
      <Value value="red"/><Value value="gr&#252;n"/>
    </DataField>
    <DataField name="new" optype="categorical" dataType="boolean"/>
    <DataField name="price" optype="continuous" dataType="double"/>
  </DataDictionary>
  <RegressionModel functionName="regression">
    <MiningSchema>
      <MiningField name="size" missingValueReplacement="7"/>
      <MiningField name="rooms" missingValueReplacement="3"/>
      <MiningField name="color"/>
      <MiningField name="new"/>
      <MiningField name="price" usageType="target"/>
    </MiningSchema>
    <Output>
      <OutputField name="price" optype="continuous" dataType="double" feature="predictedValue"/>
      <OutputField name="paint" optype="categorical" dataType="string" feature="transformedValue">
        <FieldRef field="color"/>
      </OutputField>
      <OutputField name="count" optype="continuous" dataType="integer" feature="transformedValue">
        <FieldRef field="rooms"/>
      </OutputField>
      <OutputField name="fresh" optype="categorical" dataType="boolean" feature="transformedValue">
        <FieldRef field="new"/>
      </OutputField>
    </Output>
    <RegressionTable intercept="1">
      <NumericPredictor name="size" coefficient="2"/>
      <NumericPredictor name="rooms" coefficient="10"/>
      <CategoricalPredictor name="color" value="red" coefficient="100"/>
      <CategoricalPredictor name="color" value="gr&#252;n" coefficient="200"/>
      <CategoricalPredictor name="new" value="true" coefficient="1000"/>
    </RegressionTable>
  </RegressionModel>
</PMML>
"""
PRICE_ROWS = {
    "size": np.array([1.5, 0.1]),
    "rooms": np.array([2, 2**53 + 1]),
    "color": np.array([b"red", "grün".encode()], np.object_),
    "new": np.array([True, False]),
}
FLOWER = """<PMML version="4.4" xmlns="http://www.dmg.org/PMML-4_4">
  <Header/>
  <DataDictionary>
    <DataField name="width" optype="continuous" dataType="float"/>
    <DataField name="length" optype="continuous" dataType="double"/>
    <DataField name="kind" optype="categorical" dataType="string">
      <Value value="rose"/><Value value="oxlip"/>
    </DataField>
  </DataDictionary>
  <TreeModel functionName="classification">
    <MiningSchema>
      <MiningField name="length"/><MiningField name="width"/>
      <MiningField name="kind" usageType="target"/>
    </MiningSchema>
    <Node id="all"><True/>
      <Node id="short" score="rose">
        <SimplePredicate field="length" operator="lessThan" value="0.5"/>
        <ScoreDistribution value="rose" recordCount="9"/>
        <ScoreDistribution value="oxlip" recordCount="1"/>
      </Node>
      <Node id="long" score="oxlip">
        <SimplePredicate field="length" operator="greaterOrEqual" value="0.5"/>
        <ScoreDistribution value="rose" recordCount="2"/>
        <ScoreDistribution value="oxlip" recordCount="5"/>
      </Node>
    </Node>
  </TreeModel>
</PMML>
"""
FLOWER_ROWS = {
    "width": np.array([0.5, 0.25], np.float32),
    "length": np.array([0.1, 2.5]),
}


def by_row(text: str, rows: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What PMML4S answers for one record after the other."""
    classes = java_classes(PmmlPlatform()._jars, JvmOptions())
    model = classes["org.pmml4s.model.Model"].fromString(text)
    model.setSupplementOutput(True)
    answers = [model.predict(record(rows, row)) for row in range(len(next(iter(rows.values()))))]
    found = {str(name): [answer.get(name) for answer in answers] for name in model.outputNames()}
    return {name: column(values) for name, values in found.items()}


def record(rows: Mapping[str, np.ndarray], row: int) -> Any:
    """A java.util.Map of one row."""
    made = java("java.util.HashMap")()
    for name, values in rows.items():
        value = values[row]
        made.put(name, value.decode() if isinstance(value, bytes) else value.item())
    return made


def column(values: list[Any]) -> np.ndarray:
    if isinstance(values[0], jpype.JString):
        return np.array([str(value).encode() for value in values], np.object_)
    if isinstance(values[0], java("java.lang.Boolean")):
        return np.array([bool(value) for value in values])
    whole = isinstance(values[0], java("java.lang.Long"))
    return np.array([int(value) if whole else float(value) for value in values])


def writing(
    text: str, rows: Mapping[str, np.ndarray], encoding: str = "utf-8"
) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        document = text.replace("UTF-8", encoding).encode(encoding)
        (directory / "model.pmml").write_bytes(document)
        return by_row(text, rows)

    return write


CASES = [
    PlatformCase("mixed", "pmml", "model.pmml", writing(PRICE, PRICE_ROWS), PRICE_ROWS),
    PlatformCase("classes", "pmml", "model.pmml", writing(FLOWER, FLOWER_ROWS), FLOWER_ROWS),
    PlatformCase("utf-16", "pmml", "model.pmml", writing(PRICE, PRICE_ROWS, "utf-16"), PRICE_ROWS),
]


class TestPmml(PlatformTests):
    """Every type of fields, and a classification without outputs of its own."""


def load(path: Path, text: str = "") -> Any:
    if text:
        (path / "model.pmml").write_text(text)
    return PmmlPlatform().load(M1, str(path))


def refusal(path: Path, text: str) -> str:
    with pytest.raises(InvalidArgument) as raised:
        load(path, text)
    return raised.value.message


def test_the_signature_has_the_fields_of_the_model(tmp_path: Path):
    signature = load(tmp_path, PRICE).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {
        "size": TensorInfo("size", DType.DOUBLE, (None,)),
        "rooms": TensorInfo("rooms", DType.INT64, (None,)),
        "color": TensorInfo("color", DType.STRING, (None,)),
        "new": TensorInfo("new", DType.BOOL, (None,)),
    }
    assert {name: info.dtype for name, info in signature.outputs.items()} == {
        "price": DType.DOUBLE,
        "paint": DType.STRING,
        "count": DType.INT64,
        "fresh": DType.BOOL,
    }


def test_a_classification_tells_its_classes_without_outputs_of_its_own(tmp_path: Path):
    signature = load(tmp_path, FLOWER).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs["width"].dtype is DType.FLOAT
    outputs = {name: info.dtype for name, info in signature.outputs.items()}
    assert outputs["predicted_kind"] is DType.STRING
    assert outputs["probability_oxlip"] is DType.DOUBLE


def test_values_are_those_of_the_formula(tmp_path: Path):
    found = run_and_wait(load(tmp_path, PRICE), PRICE_ROWS, ["count", "price", "paint"])
    np.testing.assert_array_equal(found[0], [2, 2**53 + 1])
    np.testing.assert_allclose(found[1], [1 + 3 + 20 + 100 + 1000, 10 * 2**53 + 200], rtol=1e-12)
    assert list(found[2]) == [b"red", "grün".encode()]


def test_what_is_missing_is_replaced_or_left_missing_as_the_model_says(tmp_path: Path):
    rows = {
        "size": np.array([np.nan, 1.0]),
        "rooms": np.array([MISSING, 1]),
        "color": np.array([b"red", b""], np.object_),
        "new": np.array([False, False]),
    }
    price, paint = run_and_wait(load(tmp_path, PRICE), rows, ["price", "paint"])
    np.testing.assert_array_equal(price, [1 + 14 + 30 + 100, 1 + 2 + 10])
    assert list(paint) == [b"red", b""]


def test_a_category_that_the_model_does_not_know_makes_the_answer_of_its_row_missing(
    tmp_path: Path,
):
    rows = {**PRICE_ROWS, "color": np.array([b"blue", b"red"], np.object_)}
    price, paint, count = run_and_wait(load(tmp_path, PRICE), rows, ["price", "paint", "count"])
    assert np.isnan(price[0])
    assert not np.isnan(price[1])
    assert list(paint) == [b"", b"red"]
    assert count[0] == MISSING


def test_no_rows_have_no_answers(tmp_path: Path):
    rows = {name: values[:0] for name, values in FLOWER_ROWS.items()}
    kind, probability = run_and_wait(
        load(tmp_path, FLOWER), rows, ["predicted_kind", "probability_rose"]
    )
    assert (kind.shape, probability.shape) == ((0,), (0,))
    assert probability.dtype == np.float64


def test_columns_of_different_lengths_are_refused(tmp_path: Path):
    rows = {**FLOWER_ROWS, "width": np.zeros(3, np.float32)}
    with pytest.raises(InvalidArgument, match="same number of rows"):
        run_and_wait(load(tmp_path, FLOWER), rows, ["predicted_kind"])


@pytest.mark.parametrize(
    "declared",
    ['[<!ENTITY x SYSTEM "file:///etc/passwd">]', '[<!ENTITY x "xx">]', 'SYSTEM "pmml.dtd"'],
)
def test_a_document_that_could_read_files_or_grow_is_refused_unread(tmp_path: Path, declared: str):
    bad = FLOWER.replace("<PMML", f"<!DOCTYPE PMML {declared}>\n<PMML", 1)
    assert "model.pmml declares a document type" in refusal(tmp_path, bad)


def test_a_document_type_is_found_in_any_encoding(tmp_path: Path):
    bad = '<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]>' + FLOWER
    for encoding in ("utf-16", "utf-8-sig"):
        (tmp_path / "model.pmml").write_bytes(bad.encode(encoding))
        with pytest.raises(InvalidArgument, match="declares a document type"):
            load(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a/>", "model.pmml is no PMML document: its root element is a"),
        ('<?xml version="1.0" encoding="no-such"?><PMML/>', "model.pmml is no text in no-such"),
        ('<?xml version="1.0" encoding="undefined"?><PMML/>', "model.pmml is no text in undefined"),
        ('<?xml version="1.0" encoding="idna"?><PMML/>', "model.pmml is no text in idna"),
        ('<?xml version="1.0" encoding="utf-7"?><PMML/>', "model.pmml is no text in utf-7"),
        (
            FLOWER.replace("TreeModel", "BayesianNetworkModel"),
            "model.pmml can not be read by PMML4S: The 'BayesianNetworkModel' is not supported",
        ),
        ("<PMML version='4.2'><Header/><DataDictionary/></PMML>", "model.pmml has no model that"),
        (f"<PMML>{'<a>' * 300}{'</a>' * 300}</PMML>", "model.pmml has more than 250 levels"),
    ],
)
def test_what_is_no_model_is_refused_with_a_reason(tmp_path: Path, text: str, message: str):
    assert refusal(tmp_path, text).startswith(message)


def test_a_document_that_lacks_only_its_end_is_refused(tmp_path: Path):
    """PMML4S reads on without a word where everything that it needs has come."""
    assert refusal(tmp_path, FLOWER[: -len("</PMML>\n")]).startswith(
        "model.pmml is no whole XML document: no element found"
    )
