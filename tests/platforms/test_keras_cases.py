"""Keras models on a server: as every platform's models, and code that they bring is not run."""

from __future__ import annotations

import io
import json
import weakref
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from platform_tests import PlatformCase, PlatformTests, served

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.keras_loader import KerasPlatform
from serving.loaders.keras_options import KerasOptions

__all__ = ["served"]  # the fixture, which pytest finds here

INPUTS = {"x": np.float32([[1, 2, 3], [4, 5, 7]])}
ID = ServableId("m", 1)


def network() -> keras.Model:
    keras.utils.set_random_seed(3)
    x = keras.Input([3], name="x")
    hidden = keras.layers.Dense(4, activation="relu", name="of_x")(x)
    return keras.Model(x, keras.layers.Dense(2, activation="softmax")(hidden))


def writer(name: str) -> Callable[[Path], Mapping[str, np.ndarray]]:
    def write(directory: Path) -> Mapping[str, np.ndarray]:
        model = network()
        model.save(directory / name)
        return {"output_0": np.asarray(model(INPUTS["x"]).numpy())}

    return write


def of_several(directory: Path) -> Mapping[str, np.ndarray]:
    """Two inputs, and two outputs that have names."""
    keras.utils.set_random_seed(3)
    x, y = keras.Input([3], name="x"), keras.Input([2], name="y")
    both = keras.layers.Concatenate()([x, y])
    outputs = {"sum": keras.layers.Dense(1)(both), "parts": keras.layers.Dense(4)(both)}
    model = keras.Model([x, y], outputs)
    model.save(directory / "model.keras")
    found = model([INPUTS["x"], INPUTS["x"][:, :2]])
    return {name: np.asarray(tensor.numpy()) for name, tensor in found.items()}


def of_words(directory: Path) -> Mapping[str, np.ndarray]:
    """Layers with tables, and one that runs both ways."""
    keras.utils.set_random_seed(3)
    words = keras.Input([None], dtype="string", name="words")
    numbers = keras.layers.StringLookup(vocabulary=["good", "bad"])(words)
    states = keras.layers.Bidirectional(keras.layers.GRU(2))(
        keras.layers.Embedding(4, 3, mask_zero=True)(numbers)
    )
    model = keras.Model(words, states)
    model.save(directory / "model.keras")
    return {"output_0": np.asarray(model(tf.constant(WORDS["words"])).numpy())}


def compiled(directory: Path) -> Mapping[str, np.ndarray]:
    """As it was trained, a model within a model."""
    keras.utils.set_random_seed(3)
    layers = [keras.layers.BatchNormalization(), keras.layers.Dropout(0.5), keras.layers.Dense(2)]
    inner = keras.Sequential([keras.Input([3]), *layers])
    x = keras.Input([3], name="x")
    model = keras.Model(x, inner(x))
    model.compile("adam", "mse", metrics=["mae"])
    model.fit(INPUTS["x"], np.float32([[1, 2], [3, 4]]), epochs=2, verbose=0)
    model.save(directory / "trained.h5")
    return {"output_0": np.asarray(model(INPUTS["x"]).numpy())}


WORDS = {"words": np.array([[b"good", b"day"], [b"bad", b"day"]], np.object_)}
CASES = [
    *(
        PlatformCase(name, "keras", name, writer(name), INPUTS, tolerance=1e-6)
        for name in ("model.keras", "digits.h5")
    ),
    PlatformCase(
        "several",
        "keras",
        "model.keras",
        of_several,
        {"x": INPUTS["x"], "y": INPUTS["x"][:, :2]},
        tolerance=1e-6,
    ),
    PlatformCase("words", "keras", "model.keras", of_words, WORDS, tolerance=1e-6),
    PlatformCase("compiled", "keras", "trained.h5", compiled, INPUTS, tolerance=1e-5),
]


class TestKeras(PlatformTests):
    pass


def load(path: Path, *, allow_code: bool = False) -> Any:
    return KerasPlatform(KerasOptions(allow_code=allow_code)).load(ID, str(path))


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_python_code_in_a_model_is_run_only_where_that_is_allowed(tmp_path: Path, name: str):
    x = keras.Input([1], name="x")
    keras.Model(x, keras.layers.Lambda(lambda value: value * 3)(x)).save(tmp_path / name)
    with pytest.raises(FailedPrecondition, match="--allow_keras_code would run it"):
        load(tmp_path)
    servable = load(tmp_path, allow_code=True)
    signature = servable.signatures["serving_default"]
    ((x_info,), (y_info,)) = signature.inputs.values(), signature.outputs.values()
    (tripled,) = run_and_wait(servable, {x_info.name: np.float32([[2]])}, [y_info.name])
    assert tripled.tolist() == [[6.0]]


def test_a_class_that_keras_does_not_have_is_not_imported(tmp_path: Path):
    """A configuration may name any class of any module."""
    network().save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(files["config.json"])
    config |= {"module": "subprocess", "class_name": "Popen", "registered_name": "Popen"}
    config["config"] = {"args": ["touch", str(tmp_path / "was_here")]}
    files["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    with pytest.raises((FailedPrecondition, InvalidArgument)):
        load(tmp_path)
    assert not (tmp_path / "was_here").exists()


def test_an_archive_that_expands_too_much_is_not_unpacked(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "model.keras", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("model.weights.h5", b"\0" * 2**27)
    with pytest.raises(InvalidArgument, match=r"unpacked to 134217728 bytes, more than 20 times"):
        load(tmp_path)


def test_files_by_each_others_names_are_refused(tmp_path: Path):
    zipped, hdf5 = tmp_path / "1" / "model.keras", tmp_path / "2" / "model.h5"
    for file in (zipped, hdf5):
        file.parent.mkdir()
        network().save(file)
    zipped_content = zipped.read_bytes()
    zipped.write_bytes(hdf5.read_bytes())
    hdf5.write_bytes(zipped_content)
    for file in (zipped, hdf5):
        with pytest.raises(InvalidArgument):
            load(file.parent)


def test_a_model_that_was_never_built_can_not_be_called(tmp_path: Path):
    with pytest.warns(UserWarning, match="not yet been built"):
        keras.Sequential([keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(InvalidArgument, match="the Keras model can not be loaded"):
        load(tmp_path)


@pytest.mark.parametrize("is_whole", [True, False], ids=["loaded", "refused"])
def test_after_a_load_the_weights_are_there_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_whole: bool
):
    """Nothing of Keras's stays beside what TensorFlow has loaded."""
    models = []
    load_model = keras.saving.load_model

    def watched(*args: Any, **options: Any) -> keras.Model:
        model = load_model(*args, **options)
        models.append(weakref.ref(model))
        return model

    monkeypatch.setattr(keras.saving, "load_model", watched)
    if is_whole:
        network().save(tmp_path / "model.keras")
        load(tmp_path)
    else:
        with pytest.warns(UserWarning, match="not yet been built"):
            keras.Sequential([keras.layers.Dense(1)]).save(tmp_path / "model.keras")
        with pytest.raises(InvalidArgument):
            load(tmp_path)
    assert [model() for model in models] == [None]


def test_an_archive_of_a_later_kind_is_no_model(tmp_path: Path):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        target.writestr("config.json", "{}")
    content = bytearray(archive.getvalue())
    content[content.rfind(b"PK\1\2") + 6] = 99
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(InvalidArgument, match="no Keras model, or not all of one"):
        load(tmp_path)
