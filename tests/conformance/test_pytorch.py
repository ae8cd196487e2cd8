"""A server with PyTorch models: several instances, adaptive batches, and files that are refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import pytorch_models as models  # skips where PyTorch is not installed
import tensorflow as tf
from stock_clients import (
    Client,
    client_of,
    metadata_request,
    predict_request,
    spec,
    status_request,
)
from tensorflow_serving.apis.get_model_metadata_pb2 import SignatureDefMap

from serving.testing import running_server

_CONFIG = """
model_config_list {{
  config {{ name: "tower" base_path: "{folder}/tower" }}
  config {{ name: "unknown" base_path: "{folder}/unknown" }}
}}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pytorch")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    """Of a server with two instances of each model; no platform is configured."""
    example = models.tensors(models.TOWER_INPUTS)
    models.export(folder / "tower" / "1" / "model.pt2", models.Tower(), example)
    models.script(folder / "unknown" / "1" / "model.pt", models.Same())
    (folder / "batching").write_text("batching_mode: ADAPTIVE num_batch_threads { value: 2 }")
    (folder / "models.config").write_text(_CONFIG.format(folder=folder))
    with (
        running_server(
            "--instances_per_model=2",
            "--devices=cpu:0",
            "--enable_batching",
            f"--batching_parameters_file={folder / 'batching'}",
            "--max_num_load_retries=0",
            "--version_settle_seconds=0",
            f"--model_config_file={folder / 'models.config'}",
        ) as server,
        client_of(server.grpc_port) as made,
    ):
        yield made


def test_adaptive_batches_of_two_instances_answer_what_pytorch_does(client: Client):
    expected = models.own_outputs(models.Tower(), models.TOWER_INPUTS)
    calls = [
        client.future("Predict", predict_request(spec("tower"), **models.TOWER_INPUTS))
        for _ in range(40)
    ]
    for call in calls:
        outputs = {key: tf.make_ndarray(proto) for key, proto in call.result().outputs.items()}
        np.testing.assert_allclose(outputs["scores"], expected["scores"], 1e-5)
        assert outputs["twice"].tolist() == expected["twice"].tolist()


def test_metadata_has_invalid_for_types_that_nobody_knows(client: Client):
    """And any rank; the values of a request say their own."""
    response = client.call("GetModelMetadata", metadata_request(spec("unknown"), "signature_def"))
    signatures = SignatureDefMap()
    response.metadata["signature_def"].Unpack(signatures)
    x = signatures.signature_def["serving_default"].inputs["x"]
    assert (x.name, x.dtype, x.tensor_shape.unknown_rank) == ("x", 0, True)
    halves = np.array([1, 2], np.float16)
    (output,) = client.predict(spec("unknown"), x=halves).values()
    assert (output.dtype, output.tolist()) == (halves.dtype, [1, 2])


def test_a_pickled_module_ends_its_version_and_touches_no_other(client: Client, folder: Path):
    unfinished = folder / "unfinished"
    unfinished.mkdir()
    models.torch.save(models.Tower(), unfinished / "model.pt")
    unfinished.rename(folder / "unknown" / "2")
    client.await_states({1: ("AVAILABLE", "OK"), 2: ("END", "INVALID_ARGUMENT")}, "unknown")
    states = client.call("GetModelStatus", status_request(spec("unknown"))).model_version_status
    (text,) = [state.status.error_message for state in states if state.version == 2]
    assert text.startswith("model.pt is a pickle, as torch.save writes of modules and state dicts")
    assert client.predict(spec("unknown"), x=np.ones(2, np.int64))["output_0"].tolist() == [1, 1]
