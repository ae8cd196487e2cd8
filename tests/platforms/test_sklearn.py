"""scikit-learn's estimators are served; pickles only where the operator allows them."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.servable import DEFAULT_SIGNATURE, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.sklearn_options import SklearnOptions

pytest.importorskip("sklearn", reason="scikit-learn is not installed")
pytest.importorskip("skops", reason="skops is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")

import joblib
import pandas as pd
import skops.io
from scipy.sparse import csr_matrix
from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multiclass import OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import MultinomialNB
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from serving.loaders.sklearn_loader import SklearnPlatform

__all__ = ["served"]

M1 = ServableId("m", 1)
ALLOWED = SklearnOptions(allow_pickle=True)
TREE = "sklearn.tree._tree.Tree"
TRUSTED = SklearnOptions(trusted_types=(TREE,))
ASKED = data.ASKED.astype(np.float64)
ROWS = data.ROWS.astype(np.float64)
WORDS = np.array(["low", "mid", "high"])[data.CLASSES]
TEXTS = np.array(["a good day", "a bad day"] * 4, np.object_)
FRAME = pd.DataFrame({"size": ROWS[:, 0], "color": data.COLORS})


def write_file(path: Path, estimator: Any) -> None:
    if path.suffix == ".skops":
        skops.io.dump(estimator, path)
    elif path.suffix == ".joblib":
        joblib.dump(estimator, path)
    else:
        path.write_bytes(pickle.dumps(estimator))


def answers(estimator: Any, rows: Any) -> Mapping[str, np.ndarray]:
    methods = ("predict", "predict_proba", "predict_log_proba")
    with np.errstate(divide="ignore"):
        return {
            method: np.asarray(getattr(estimator, method)(rows))
            for method in methods
            if hasattr(estimator, method)
        }


def writing(
    make: Callable[[], Any], asked: Any, file: str = "model.skops", signature: str = ""
) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        estimator = make()
        write_file(directory / file, estimator)
        if signature:
            (directory / "signature.json").write_text(signature)
        return answers(estimator, asked)

    return write


def case(
    name: str,
    make: Callable[[], Any],
    inputs: Mapping[str, Any],
    asked: Any,
    *,
    file: str = "model.skops",
    signature: str = "",
) -> PlatformCase:
    write = writing(make, asked, file, signature)
    flags = ("--allow_pickle_models", f"--trusted_skops_types={TREE}")
    options = SklearnOptions(allow_pickle=True, trusted_types=(TREE,))
    return PlatformCase(
        name, "sklearn", file, write, inputs, flags=flags, options=options, allows_code=True
    )


def logistic() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, data.CLASSES)


def forest() -> Any:
    return RandomForestClassifier(5, random_state=0).fit(ROWS, WORDS)


def linear() -> Any:
    return LinearRegression().fit(ROWS, data.VALUES)


def tree() -> Any:
    return DecisionTreeClassifier(random_state=0).fit(ROWS, data.CLASSES)


def frames() -> Any:
    columns = make_column_transformer((OneHotEncoder(), ["color"]), remainder="passthrough")
    return make_pipeline(columns, LogisticRegression()).fit(FRAME, data.CLASSES)


def texts() -> Any:
    return make_pipeline(CountVectorizer(), MultinomialNB()).fit(TEXTS, [1, 0] * 4)


FRAME_SIGNATURE = """{
  "inputs": {
    "size": {"dtype": "double", "shape": [null]},
    "color": {"dtype": "string", "shape": [null]}
  },
  "outputs": {
    "predict": {"dtype": "int64", "shape": [null]},
    "predict_proba": {"dtype": "double", "shape": [null, 3]},
    "predict_log_proba": {"dtype": "double", "shape": [null, 3]}
  }
}"""
TEXT_SIGNATURE = '{"inputs": {"text": {"dtype": "string", "shape": [null]}}}'
COLORS = np.array([color.encode() for color in data.COLORS[:2]], np.object_)
X = {"x": ASKED}
CASES = [
    case("pipeline", logistic, X, ASKED),
    case("words", forest, X, ASKED),
    case("values", linear, X, ASKED),
    case("joblib", logistic, X, ASKED, file="any.joblib"),
    case("pickle", logistic, X, ASKED, file="model.pkl"),
    case(
        "frame",
        frames,
        {"size": ROWS[:2, 0], "color": COLORS},
        FRAME[:2],
        signature=FRAME_SIGNATURE,
    ),
    case(
        "texts",
        texts,
        {"text": np.array([b"good good", b"bad"], np.object_)},
        ["good good", "bad"],
        signature=TEXT_SIGNATURE,
    ),
]


class TestSklearn(PlatformTests):
    """Numbers, words and texts, in each kind of file."""


def load(path: Path, options: SklearnOptions | None = None) -> Any:
    return SklearnPlatform(options).load(M1, str(path))


def refusal(path: Path, options: SklearnOptions | None = None) -> str:
    with pytest.raises(InvalidArgument) as raised:
        load(path, options)
    return raised.value.message


def test_the_signature_has_what_the_estimator_takes_and_gives(tmp_path: Path):
    write_file(tmp_path / "model.skops", forest())
    signature = load(tmp_path, TRUSTED).signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.DOUBLE, (None, 4))}
    assert signature.outputs == {
        "predict": TensorInfo("predict", DType.STRING, (None,)),
        "predict_proba": TensorInfo("predict_proba", DType.DOUBLE, (None, 3)),
        "predict_log_proba": TensorInfo("predict_log_proba", DType.DOUBLE, (None, 3)),
    }


def test_an_estimator_without_probabilities_has_none(tmp_path: Path):
    write_file(tmp_path / "model.skops", linear())
    assert load(tmp_path).signatures[DEFAULT_SIGNATURE].outputs.keys() == {"predict"}


def test_an_impossible_class_has_the_logarithm_of_nothing(tmp_path: Path):
    """Without a warning, which tests turn into errors."""
    write_file(tmp_path / "model.skops", tree())
    (output,) = run_and_wait(load(tmp_path, TRUSTED), X, ["predict_log_proba"])
    np.testing.assert_array_equal(output, answers(tree(), ASKED)["predict_log_proba"])
    assert np.isneginf(output).any()


def test_several_targets_have_probabilities_row_by_row(tmp_path: Path):
    labels = np.column_stack([data.CLASSES, data.CLASSES[::-1]])
    estimator = MultiOutputClassifier(LogisticRegression()).fit(ROWS, labels)
    write_file(tmp_path / "model.skops", estimator)
    servable = load(tmp_path)
    info = servable.signatures[DEFAULT_SIGNATURE].outputs["predict_proba"]
    assert info.shape == (None, 2, 3)
    (output,) = run_and_wait(servable, X, ["predict_proba"])
    first, second = estimator.predict_proba(ASKED)
    np.testing.assert_array_equal(output[:, 0], first)
    np.testing.assert_array_equal(output[:, 1], second)


def test_sparse_answers_become_arrays(tmp_path: Path):
    labels = np.column_stack([data.CLASSES > 0, data.CLASSES > 1]).astype(np.int64)
    estimator = OneVsRestClassifier(LogisticRegression()).fit(ROWS, csr_matrix(labels))
    write_file(tmp_path / "model.skops", estimator)
    servable = load(tmp_path)
    info = servable.signatures[DEFAULT_SIGNATURE].outputs["predict"]
    assert info == TensorInfo("predict", DType.INT64, (None, 2))
    (output,) = run_and_wait(servable, X, ["predict"])
    np.testing.assert_array_equal(output, estimator.predict(ASKED).toarray())


def test_features_with_names_are_an_input_each_or_one_matrix(tmp_path: Path):
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    estimator = LogisticRegression().fit(frame, data.CLASSES)
    write_file(tmp_path / "model.skops", estimator)
    servable = load(tmp_path)
    assert servable.signatures[DEFAULT_SIGNATURE].inputs == {
        name: TensorInfo(name, DType.DOUBLE, (None,)) for name in "abcd"
    }
    columns = {name: ASKED[:, index] for index, name in enumerate("abcd")}
    expected = estimator.predict(frame[:2]).tolist()
    assert run_and_wait(servable, columns, ["predict"])[0].tolist() == expected
    (tmp_path / "signature.json").write_text(
        '{"inputs": {"x": {"dtype": "double", "shape": [null, 4]}}}'
    )
    assert run_and_wait(load(tmp_path), X, ["predict"])[0].tolist() == expected


@pytest.mark.parametrize(
    ("signature", "message"),
    [
        (
            '{"inputs": {"a": {"dtype": "double"}, "z": {"dtype": "double"}}}',
            "signature.json: inputs must be the model's features, size, color, or one matrix",
        ),
        (
            '{"inputs": {"size": {"dtype": "double", "shape": [null, 2]},'
            ' "color": {"dtype": "string", "shape": [null]}}}',
            "signature.json: inputs.size.shape must be [null], as it is one feature",
        ),
        (
            '{"inputs": {"x": {"dtype": "double", "shape": [null, 3]}}}',
            "signature.json: inputs.x.shape must be [null, 2], as the model has 2 features",
        ),
        ("", "a run that was to find out the model's outputs failed: "),
    ],
)
def test_inputs_that_do_not_suit_the_estimator_end_the_load(
    tmp_path: Path, signature: str, message: str
):
    """Without a word about types, both features would be numbers."""
    writing(frames, FRAME[:2], signature=signature)(tmp_path)
    assert refusal(tmp_path).startswith(message)


def test_what_takes_texts_has_to_be_declared(tmp_path: Path):
    write_file(tmp_path / "model.skops", texts())
    assert refusal(tmp_path) == (
        "the model does not say how many features it takes; signature.json has to"
    )


def test_declared_outputs_have_the_declared_types(tmp_path: Path):
    write_file(tmp_path / "model.skops", logistic())
    (tmp_path / "signature.json").write_text(
        '{"outputs": {"predict": {"dtype": "int32", "shape": [null]}}}'
    )
    servable = load(tmp_path)
    assert servable.signatures[DEFAULT_SIGNATURE].outputs.keys() == {"predict"}
    (output,) = run_and_wait(servable, X, ["predict"])
    assert output.dtype == np.int32


def test_what_the_estimator_refuses_is_the_requests_fault(tmp_path: Path):
    write_file(tmp_path / "model.skops", logistic())
    with pytest.raises(InvalidArgument, match="contains NaN"):
        run_and_wait(load(tmp_path), {"x": np.full((1, 4), np.nan)}, ["predict"])


def test_what_predicts_nothing_is_refused(tmp_path: Path):
    write_file(tmp_path / "model.skops", StandardScaler().fit(ROWS))
    assert refusal(tmp_path) == "the model is a StandardScaler, which has no predict"


class Bomb:
    """Touches a file when it is read back."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._target,)


@pytest.mark.parametrize("file", ["model.pkl", "model.pickle", "model.joblib"])
def test_a_pickle_is_not_read_unless_it_is_allowed(tmp_path: Path, file: str):
    """One that is allowed runs what it says, which shows that this one would have."""
    version, target = tmp_path / "1", tmp_path / "it has run"
    version.mkdir()
    write_file(version / file, Bomb(target))
    with pytest.raises(FailedPrecondition) as raised:
        load(version)
    assert raised.value.message.startswith(f"{file} is a pickle, which may run any code")
    assert "--allow_pickle_models" in raised.value.message
    assert not target.exists()
    refusal(version, ALLOWED)
    assert target.exists()


def test_what_xgboost_has_pickled_is_served_too(tmp_path: Path):
    """Its estimators are estimators of scikit-learn."""
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    estimator = xgboost.XGBClassifier(n_estimators=5).fit(ROWS, data.CLASSES)
    write_file(tmp_path / "model.joblib", estimator)
    servable = load(tmp_path, ALLOWED)
    outputs = run_and_wait(servable, X, ["predict", "predict_proba"])
    np.testing.assert_array_equal(outputs[0], estimator.predict(ASKED))
    np.testing.assert_array_equal(outputs[1], estimator.predict_proba(ASKED))


def test_a_pickle_called_skops_is_not_read(tmp_path: Path):
    version, target = tmp_path / "1", tmp_path / "it has run"
    version.mkdir()
    (version / "model.skops").write_bytes(pickle.dumps(Bomb(target)))
    assert refusal(version).startswith("model.skops is no scikit-learn model in a .skops file")
    assert not target.exists()


def test_an_archive_that_expands_too_much_is_not_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "model.skops", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("schema.json", b'{"a": "' + b" " * 2**27 + b'"}')
    assert refusal(tmp_path) == (
        "model.skops would be unpacked to 134217737 bytes, more than 20 times its size"
    )


class Doubler:
    """An estimator of nobody that is trusted."""

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return rows * 2


def test_types_that_are_not_trusted_are_refused_with_their_names(tmp_path: Path):
    """Also those that others trust: skops does not trust the trees of scikit-learn."""
    for estimator, unknown in ((Doubler(), "test_sklearn.Doubler"), (tree(), TREE)):
        write_file(tmp_path / "model.skops", estimator)
        assert refusal(tmp_path) == (
            f"model.skops has types that are not trusted: {unknown}; "
            "--trusted_skops_types trusts those that it names"
        )


LETTERS = CountVectorizer(input="filename", analyzer="char", vocabulary=["a", "b"])


def in_an_array(part: Any) -> FunctionTransformer:
    held = np.empty(1, np.object_)
    held[0] = part
    return FunctionTransformer(kw_args={"held": held})


@pytest.mark.parametrize(
    "first",
    [
        LETTERS,
        TfidfVectorizer(input="file", vocabulary=["a", "b"]),
        HashingVectorizer(input="filename", n_features=2),
        CountVectorizer(input=np.array("filename"), vocabulary=["a", "b"]),
        make_union(LETTERS),
        make_column_transformer((LETTERS, 0)),
        in_an_array(LETTERS),
    ],
    ids=["count", "tfidf", "hashing", "word in an array", "union", "columns", "array"],
)
def test_no_client_names_files_that_a_model_reads(tmp_path: Path, first: Any):
    """All types are trusted; the text would be the name of the file whose letters are counted."""
    regression = LinearRegression().fit(np.eye(2), np.eye(2))
    write_file(tmp_path / "model.skops", make_pipeline(first, regression))
    (tmp_path / "signature.json").write_text(TEXT_SIGNATURE)
    assert "that reads the files which requests name" in refusal(tmp_path)


def test_no_client_names_files_that_a_pickled_model_reads(tmp_path: Path):
    write_file(tmp_path / "model.pkl", make_pipeline(LETTERS, LinearRegression()))
    assert refusal(tmp_path, ALLOWED) == (
        "the model has a CountVectorizer that reads the files which requests name; "
        "only input='content' is served"
    )
