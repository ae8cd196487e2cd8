"""Damaged files of frameworks that crash on them end no server."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import grpc
import numpy as np
import pytest
import tabular_data as data
import tensorflow as tf
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from waiting import START_SECONDS, WAIT_SECONDS, await_

from serving.testing import running_server

ROOT = Path(__file__).parents[2]
NUM_FLIPPED = 2
REFUSALS = ("INVALID_ARGUMENT: ", "DEADLINE_EXCEEDED: ")  # some are read for ever
LOADS = """
import sys
from serving.core.errors import ServingError
from serving.core.servable_id import ServableId
from serving.loaders.platforms import Platforms
platform = Platforms({}).get(sys.argv[1])
for folder in sys.argv[2:]:
    try:
        platform.load(ServableId("m", 1), folder).close()
        print("loaded", flush=True)
    except ServingError as error:
        print(error, flush=True)
"""


def xgboost_file(folder: Path) -> Path:
    xgboost = pytest.importorskip("xgboost", reason="xgboost is not installed")
    rows = xgboost.DMatrix(data.ROWS, data.CLASSES)
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3, "nthread": 1}, rows, 3)
    booster.save_model(folder / "model.json")
    return folder / "model.json"


def lightgbm_file(folder: Path) -> Path:
    lightgbm = pytest.importorskip("lightgbm", reason="lightgbm is not installed")
    parameters = {"objective": "multiclass", "num_class": 3, "verbose": -1, "num_threads": 1}
    rows = lightgbm.Dataset(data.ROWS.astype(np.float64), data.CLASSES)
    lightgbm.train(parameters, rows, 3).save_model(folder / "model.txt")
    return folder / "model.txt"


def catboost_file(folder: Path) -> Path:
    catboost = pytest.importorskip("catboost", reason="catboost is not installed")
    model = catboost.CatBoostClassifier(
        iterations=3, thread_count=1, verbose=False, allow_writing_files=False
    )
    model.fit(data.ROWS, data.CLASSES).save_model(str(folder / "model.cbm"))
    return folder / "model.cbm"


def far_children(content: bytes) -> bytes:
    """A tree of XGBoost's that goes on where there are no nodes."""
    document = json.loads(content)
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        tree["left_children"] = [1 << 29 if each >= 0 else each for each in tree["left_children"]]
    return json.dumps(document).encode()


def many_leaves(content: bytes) -> bytes:
    """A tree of LightGBM's with more leaves than it has."""
    return re.sub(rb"num_leaves=\d+", b"num_leaves=2000000000", content)


def far_splits(content: bytes) -> bytes:
    """Trees of CatBoost's that ask features which there are not."""
    catboost = pytest.importorskip("catboost", reason="catboost is not installed")
    model = catboost.CatBoost()
    model.load_model(blob=content, format="cbm")
    with tempfile.TemporaryDirectory() as folder:
        model.save_model(f"{folder}/model.json", format="json")
        trees = json.loads(Path(folder, "model.json").read_text())["oblivious_trees"]
    splits = np.array([s["split_index"] for tree in trees for s in tree["splits"]], "<i4")
    assert content.count(splits.tobytes()) == 1
    return content.replace(splits.tobytes(), np.full_like(splits, 2**31 - 1).tobytes())


def flipped(content: bytes, seed: int) -> bytes:
    """With a few bits or bytes changed, or an end that is missing."""
    chosen = random.Random(seed)
    changed = bytearray(content)
    for _ in range(1 + seed):
        changed[chosen.randrange(len(changed))] ^= chosen.randrange(1, 256)
    return bytes(changed[: chosen.randrange(len(changed))] if seed % 2 else changed)


FILES: Mapping[str, tuple[Callable[[Path], Path], Callable[[bytes], bytes]]] = {
    "xgboost": (xgboost_file, far_children),
    "lightgbm": (lightgbm_file, many_leaves),
    "catboost": (catboost_file, far_splits),
}


def outcomes(platform: str, contents: Sequence[bytes], name: str, folder: Path) -> list[str]:
    """What became of each file, all loaded by one process, which has to be there at the end."""
    folders = []
    for index, content in enumerate(contents):
        (folder / str(index)).mkdir()
        (folder / str(index) / name).write_bytes(content)
        folders.append(str(folder / str(index)))
    done = subprocess.run(
        [sys.executable, "-c", LOADS, platform, *folders],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=START_SECONDS * len(contents),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("platform", FILES)
def test_a_damaged_file_is_refused_or_loaded_and_ends_nothing(platform: str, tmp_path: Path):
    """One that is known to crash the framework is refused with what became of that."""
    write, crashing = FILES[platform]
    file = write(tmp_path)
    whole = file.read_bytes()
    contents = [whole, crashing(whole), *(flipped(whole, seed) for seed in range(NUM_FLIPPED))]
    found = outcomes(platform, contents, file.name, tmp_path)
    assert len(found) == len(contents)
    assert found[0] == "loaded"
    assert all(each == "loaded" or each.startswith(REFUSALS) for each in found)
    assert found[1].startswith(
        f"INVALID_ARGUMENT: {file.name} is no whole model of the platform {platform}: "
        "the process that tried to load it was ended by SIG"
    )


def test_a_version_that_is_damaged_leaves_the_one_before_it_serving(tmp_path: Path):
    first, second = tmp_path / "m" / "1", tmp_path / "second"
    first.mkdir(parents=True)
    file = xgboost_file(first)
    second.mkdir()
    (second / file.name).write_bytes(far_children(file.read_bytes()))
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{tmp_path / "m"}" }} }}'
    )
    wanted = get_model_status_pb2.GetModelStatusRequest()
    wanted.model_spec.name = "m"
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "m"
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(data.ASKED))
    flags = (f"--model_config_file={config}", "--max_num_load_retries=0")
    with (
        running_server(*flags) as server,
        grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel,
    ):
        models = model_service_pb2_grpc.ModelServiceStub(channel)
        second.rename(tmp_path / "m" / "2")

        def reasons() -> str:
            answer = models.GetModelStatus(wanted, timeout=WAIT_SECONDS)
            return " ".join(each.status.error_message for each in answer.model_version_status)

        await_(lambda: "tried to load it was ended by SIGSEGV" in reasons(), reasons)
        answer = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(
            request, timeout=WAIT_SECONDS
        )
        assert answer.model_spec.version.value == 1
        assert tf.make_ndarray(answer.outputs["predict"]).shape == (2, 3)
