"""H2O's MOJOs are served as H2O's own server answers; it trains and writes the models."""

from __future__ import annotations

import shutil
import socket
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tabular_data as data
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.dtypes import DType
from serving.core.errors import FailedPrecondition, InvalidArgument, Unimplemented
from serving.core.servable import DEFAULT_SIGNATURE, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.platform_detection import platform_of

pytest.importorskip("jpype", reason="jpype1 is not installed")
pytest.importorskip("java_needed", reason="Java is not installed")
pytest.importorskip("pandas", reason="pandas is not installed")
pytest.importorskip("h2o", reason="h2o is not installed")

import h2o
import pandas
from h2o.backend import H2OLocalServer
from h2o.estimators import (
    H2OGeneralizedLinearEstimator,
    H2OGradientBoostingEstimator,
    H2OKMeansEstimator,
    H2ORandomForestEstimator,
    H2OXGBoostEstimator,
)

from serving.loaders.h2o_loader import H2oPlatform
from serving.loaders.h2o_options import H2oOptions

__all__ = ["served"]

# H2O starts a server of its own and trains each model.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

M1 = ServableId("m", 1)
JAR = Path(h2o.__file__).parent / "backend" / "bin" / "h2o.jar"
OPTIONS = H2oOptions(str(JAR))
FLAGS = (f"--h2o_genmodel_jar={JAR}",)
FEATURES = ["size", "rooms", "color"]
ROWS = pandas.DataFrame(
    {
        "size": data.ROWS[:, 0].astype(np.float64),
        "rooms": np.arange(len(data.ROWS)) % 5.0,
        "color": data.COLORS,
        "weight": data.ROWS[:, 3].astype(np.float64),
        "level": np.array(["low", "mid", "high"])[data.CLASSES],
        "sold": data.CLASSES > 0,
        "price": data.VALUES,
    }
).assign(sold=lambda rows: rows["sold"].astype(int))
TYPES = {"color": "enum", "level": "enum", "sold": "enum"}
INPUTS = {
    "size": ROWS["size"].to_numpy()[:2],
    "rooms": ROWS["rooms"].to_numpy()[:2],
    "color": np.array([b"red", b"green"], np.object_),
}


ASKED = ROWS[FEATURES].head(2).assign(color=["red", "green"])


@pytest.fixture(scope="module", autouse=True)
def h2o_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """H2O's server on this machine's loopback, which makes the models and is asked about them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("h2o")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        started = H2OLocalServer.start(
            jar_path=str(JAR),
            nthreads=1,
            max_mem_size=700 * 2**20,
            port=port,
            ice_root=str(folder),
            log_dir=str(folder),
            verbose=False,
            bind_to_localhost=True,
        )
        h2o.connect(server=started, verbose=False, strict_version_check=False)
        h2o.no_progress()
        yield
        h2o.cluster().shutdown()
        started.shutdown()


@cache
def frame() -> Any:
    return h2o.H2OFrame(ROWS, column_types=TYPES)


def answers(model: Any, rows: pandas.DataFrame) -> Mapping[str, np.ndarray]:
    """H2O's predictions; the names of classes come as numbers where they can be read so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        asked = h2o.H2OFrame(rows, column_types={"color": "enum"})
        found = model.predict(asked).as_data_frame()
    is_text = model.type == "classifier"
    return {
        name: np.array([str(value).encode() for value in found[name]], np.object_)
        if is_text and name == "predict"
        else found[name].to_numpy()
        for name in found
    }


def trained(estimator: Any, label: str | None, **more: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator.train(x=FEATURES, y=label, training_frame=frame(), **more)
    return estimator


def writing(
    make: Callable[[], Any], label: str | None
) -> Callable[[Path], Mapping[str, np.ndarray]]:
    @cache
    def made() -> Any:
        return trained(make(), label)

    def write(directory: Path) -> Mapping[str, np.ndarray]:
        made().download_mojo(str(directory / "model.zip"))
        return answers(made(), ASKED)

    return write


def case(name: str, make: Callable[[], Any], label: str | None) -> PlatformCase:
    return PlatformCase(
        name,
        "h2o",
        "model.zip",
        writing(make, label),
        INPUTS,
        tolerance=1e-6,
        flags=FLAGS,
        options=OPTIONS,
    )


CASES = [
    case("named classes", lambda: H2OGeneralizedLinearEstimator(family="multinomial"), "level"),
    case(
        "calibrated",
        lambda: H2OGradientBoostingEstimator(
            ntrees=3, calibrate_model=True, calibration_frame=frame()
        ),
        "sold",
    ),
    case("forest", lambda: H2ORandomForestEstimator(ntrees=3, seed=1), "sold"),
    case("values", lambda: H2OGradientBoostingEstimator(ntrees=3), "price"),
    case("clusters", lambda: H2OKMeansEstimator(k=3, seed=1), None),
    case("xgboost", lambda: H2OXGBoostEstimator(ntrees=3), "sold"),
]


class TestH2O(PlatformTests):
    """Classes with names and numbers, calibrated ones, values, and clusters."""


def loaded(directory: Path, model: Any) -> Any:
    model.download_mojo(str(directory / "model.zip"))
    return H2oPlatform(OPTIONS).load(M1, str(directory))


@cache
def regression() -> Any:
    return trained(H2OGeneralizedLinearEstimator(alpha=0), "price")


def refusal(directory: Path, options: H2oOptions = OPTIONS) -> str:
    with pytest.raises((InvalidArgument, FailedPrecondition, Unimplemented)) as raised:
        H2oPlatform(options).load(M1, str(directory))
    return f"{raised.value.code.name}: {raised.value.message}"


def test_the_signature_has_the_columns_and_what_h2o_calls_its_answers(tmp_path: Path):
    signature = loaded(tmp_path, trained(H2OGradientBoostingEstimator(ntrees=2), "sold")).signatures
    inputs = signature[DEFAULT_SIGNATURE].inputs
    assert {name: info.dtype for name, info in inputs.items()} == {
        "size": DType.DOUBLE,
        "rooms": DType.DOUBLE,
        "color": DType.STRING,
    }
    outputs = signature[DEFAULT_SIGNATURE].outputs
    assert {name: (info.dtype, info.shape) for name, info in outputs.items()} == {
        "predict": (DType.STRING, (None,)),
        "p0": (DType.DOUBLE, (None,)),
        "p1": (DType.DOUBLE, (None,)),
    }


def test_what_is_missing_and_categories_that_were_not_there_in_training_are_taken_as_by_h2o(
    tmp_path: Path,
):
    servable = loaded(tmp_path, regression())
    rows = pandas.DataFrame(
        {"size": [np.nan, 1.0, 1.0], "rooms": [1.0] * 3, "color": ["red", None, "violet"]}
    )
    feeds = {
        "size": rows["size"].to_numpy(),
        "rooms": rows["rooms"].to_numpy(),
        "color": np.array([b"red", b"", b"violet"], np.object_),
    }
    (found,) = run_and_wait(servable, feeds, ["predict"])
    np.testing.assert_allclose(found, answers(regression(), rows)["predict"], 1e-6)


def test_an_offset_is_an_input(tmp_path: Path):
    model = trained(
        H2OGeneralizedLinearEstimator(family="poisson", offset_column="weight"), "rooms"
    )
    servable = loaded(tmp_path, model)
    rows = ROWS[["size", "color", "weight"]].head(3).assign(color=["red", "green", "red"])
    feeds = {name: rows[name].to_numpy() for name in ("size", "weight")}
    feeds["color"] = np.array([b"red", b"green", b"red"], np.object_)
    assert servable.signatures[DEFAULT_SIGNATURE].inputs.keys() == feeds.keys()
    (found,) = run_and_wait(servable, feeds, ["predict"])
    np.testing.assert_allclose(found, answers(model, rows)["predict"], 1e-6)


def test_no_rows_have_no_answers_and_unequal_columns_are_refused(tmp_path: Path):
    servable = loaded(tmp_path, regression())
    (found,) = run_and_wait(servable, {n: v[:0] for n, v in INPUTS.items()}, ["predict"])
    assert (found.shape, found.dtype) == ((0,), np.float64)
    with pytest.raises(InvalidArgument, match="same number of rows"):
        run_and_wait(servable, {**INPUTS, "size": np.zeros(3)}, ["predict"])


def test_kinds_that_are_not_served_are_named(tmp_path: Path):
    encoded = H2OGradientBoostingEstimator(ntrees=2, categorical_encoding="one_hot_explicit")
    trained(encoded, "price").download_mojo(str(tmp_path / "model.zip"))
    assert refusal(tmp_path) == (
        "UNIMPLEMENTED: a model of H2O with the categorical encoding OneHotExplicit is not served"
    )


def test_the_library_has_to_be_named_and_has_to_be_it(tmp_path: Path):
    regression().download_mojo(str(tmp_path / "model.zip"))
    assert "--h2o_genmodel_jar" in refusal(tmp_path, H2oOptions())
    (tmp_path / "other.jar").write_bytes(b"")
    for jar in (tmp_path / "none.jar", tmp_path / "other.jar"):
        assert refusal(tmp_path, H2oOptions(str(jar))) == (
            f"FAILED_PRECONDITION: {jar.name}, which --h2o_genmodel_jar names, is not H2O's library"
        )


def changed(file: Path, **members: bytes) -> None:
    """Rewrite an archive with these members more, or instead."""
    with zipfile.ZipFile(file) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in {**content, **members}.items():
            archive.writestr(name, value)


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"../../escape": b"x"}, "is no MOJO of H2O: it has a file called ../../escape"),
        ({"/etc/escape": b"x"}, "is no MOJO of H2O: it has a file called /etc/escape"),
        ({"bomb": bytes(2**27)}, "would be unpacked to"),
        ({"model.ini": b"[info]\n"}, "can not be read as a MOJO of H2O"),
        ({"model.ini": b"[info]\nalgorithm = no such\n[columns]\n"}, "can not be read as a MOJO"),
    ],
)
def test_an_archive_that_is_no_mojo_or_would_escape_or_grow_is_refused(
    tmp_path: Path, members: dict[str, bytes], message: str
):
    regression().download_mojo(str(tmp_path / "model.zip"))
    changed(tmp_path / "model.zip", **members)
    assert refusal(tmp_path).startswith("INVALID_ARGUMENT: model.zip ")
    assert message in refusal(tmp_path)
    assert str(tmp_path) not in refusal(tmp_path)


def test_a_byte_that_was_changed_is_found_by_its_checksum(tmp_path: Path):
    regression().download_mojo(str(tmp_path / "model.zip"))
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "model.zip", "w", zipfile.ZIP_STORED) as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    whole = (tmp_path / "model.zip").read_bytes()
    (tmp_path / "model.zip").write_bytes(whole.replace(b"n_features", b"n_FEATURES", 1))
    assert "is no whole MOJO of H2O: model.ini is damaged" in refusal(tmp_path)


def test_a_mojo_is_told_from_other_archives(tmp_path: Path):
    regression().download_mojo(str(tmp_path / "one.zip"))
    assert platform_of(str(tmp_path)) == "h2o"
    with zipfile.ZipFile(tmp_path / "notes.zip", "w") as archive:
        archive.writestr("notes.txt", "of the model")
    shutil.copy(tmp_path / "notes.zip", tmp_path / "more.zip")
    assert platform_of(str(tmp_path)) == "h2o"
