"""``model_server convert``: what it writes is served, and answers as the source does."""

from __future__ import annotations

from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import keras
import numpy as np
import pytest
import session_bundles
import tensorflow as tf
from exported_models import half_plus_two

from serving.cli import main as model_server
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tflite_options import TfLiteOptions


def convert(*arguments: object) -> tuple[int, str]:
    """The exit status, and what was written."""
    output = StringIO()
    with redirect_stdout(output):
        status = model_server(["convert", *map(str, arguments)])
    return status, output.getvalue()


def answer(path: Path, signature_name: str, x: np.ndarray, platform: str = "tensorflow"):
    """Of the first input and output."""
    platforms = Platforms({"tensorflow": TensorFlowOptions(), "tflite": TfLiteOptions()})
    servable = platforms.get(platform).load(ServableId("m", 1), str(path))
    try:
        signature = servable.signatures[signature_name]
        (feed,) = signature.inputs.values()
        fetch = next(iter(signature.outputs.values()))
        return run_and_wait(servable, {feed.name: x}, [fetch.name])[0]
    finally:
        servable.close()


def test_a_session_bundle_becomes_a_saved_model(tmp_path: Path):
    session_bundles.half_plus_two(tmp_path / "old" / "1")
    status, text = convert(tmp_path / "old", tmp_path / "new", "--to=saved_model")
    assert status == 0
    assert text.startswith(f"{tmp_path}/new/1: written as saved_model, for the platform tensorflow")
    assert "30 random requests through predict, serving_default were answered alike" in text
    assert "answers no random request: classify, regress" in text
    rows = np.array([1, 5], np.float32)
    np.testing.assert_array_equal(answer(tmp_path / "new" / "1", "predict", rows), [2.5, 4.5])
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(4)
    rows = np.array([example.SerializeToString()], object)
    np.testing.assert_array_equal(answer(tmp_path / "new" / "1", "regress", rows), [[4]])


def test_assets_of_a_session_bundle_come_along(tmp_path: Path):
    session_bundles.words(tmp_path / "old")
    status, _ = convert(tmp_path / "old", tmp_path / "new" / "3", "--to=saved_model")
    assert status == 0
    (tmp_path / "old").rename(tmp_path / "gone")
    words = np.array([b"c", b"a", b"z"], object)
    ids = answer(tmp_path / "new" / "3", "serving_default", words)
    np.testing.assert_array_equal(ids, [2, 0, -1])


def test_a_frozen_graph_becomes_a_saved_model(tmp_path: Path):
    session_bundles.frozen_graph(tmp_path / "old")
    status, _ = convert(tmp_path / "old" / "graph.pb", tmp_path / "new", "--to=saved_model")
    assert status == 0
    rows = np.array([[1, 2], [3, 4]], np.float32)
    before = answer(tmp_path / "old", "serving_default", rows)
    np.testing.assert_array_equal(answer(tmp_path / "new" / "1", "serving_default", rows), before)


@pytest.mark.parametrize("file", ["model.keras", "model.h5"])
def test_a_keras_model_becomes_a_saved_model(tmp_path: Path, file: str):
    model = keras.Sequential([keras.layers.Input((2,)), keras.layers.Dense(3)])
    (tmp_path / "old").mkdir()
    model.save(tmp_path / "old" / file)
    status, _ = convert(tmp_path / "old" / file, tmp_path / "new", "--to=saved_model")
    assert status == 0
    rows = np.array([[1, 2], [3, 4]], np.float32)
    made = answer(tmp_path / "new" / "1", "serving_default", rows)
    np.testing.assert_allclose(made, model(rows), rtol=1e-5)


def test_a_saved_model_becomes_one_of_tensorflow_lite(exported, tmp_path: Path):
    """Signatures that take examples do not come along, and that is told."""
    status, text = convert(exported(half_plus_two), tmp_path / "new", "--to=tflite")
    assert status == 0
    assert "left out: signature classify_x_to_y, " in text
    rows = np.array([[2]], np.float32)
    made = answer(tmp_path / "new" / "1", "serving_default", rows, "tflite")
    np.testing.assert_array_equal(made, [[3]])


def test_a_model_that_answers_something_else_is_not_kept(tmp_path: Path, capsys):
    """One that throws dice never answers the same."""
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, [None], name="x")
        tf.add(x, tf.random.uniform([]), name="y")
    session_bundles.write_graph(tmp_path / "old", graph.as_graph_def())
    status, text = convert(tmp_path / "old", tmp_path / "new", "--to=saved_model")
    assert (status, text) == (1, "")
    assert "not converted: DATA_LOSS: " in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_source_that_does_not_load_ends_with_1(tmp_path: Path, capsys):
    (tmp_path / "graph.pb").write_bytes(b"no graph")
    status, _ = convert(tmp_path / "graph.pb", tmp_path / "new", "--to=saved_model")
    assert status == 1
    assert "not converted: INVALID_ARGUMENT: graph.pb is no graph" in capsys.readouterr().err


def test_wrong_arguments_end_with_2(tmp_path: Path, capsys):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "graph.pb").write_bytes(b"")
    assert convert(tmp_path / "absent", tmp_path / "new", "--to=saved_model")[0] == 2
    assert convert(tmp_path, tmp_path / "new", "--to=punched_cards")[0] == 2
    assert "no way from graph_def to punched_cards; there are: " in capsys.readouterr().err
    (tmp_path / "file").write_bytes(b"")
    assert convert(tmp_path, tmp_path / "file" / "new" / "1", "--to=saved_model")[0] == 2
    assert capsys.readouterr().err.startswith(f"model_server convert: {tmp_path}/file")
    for wrong in (("a",), ("a", "b"), ("a", "b", "--to=onnx", "--relative_tolerance=-1")):
        with pytest.raises(SystemExit) as ended:
            convert(*wrong)
        assert ended.value.code == 2
    assert sorted(child.name for child in tmp_path.iterdir()) == ["1", "file"]


def test_the_help_names_every_way(capsys):
    with pytest.raises(SystemExit):
        model_server(["convert", "--help"])
    assert "  session_bundle to saved_model" in capsys.readouterr().out
