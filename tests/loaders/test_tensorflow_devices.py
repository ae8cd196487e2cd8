"""SavedModels on chosen devices: TensorFlow can be made to have several, of processors alone."""

from __future__ import annotations

from typing import Any

import exported_models as models
import numpy as np
import pytest
from exported_models import Exported
from tensorflow.core.protobuf.config_pb2 import ConfigProto, RunMetadata, RunOptions

from serving.core.errors import FailedPrecondition
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device
from serving.loaders.tensorflow_loader import TensorFlowPlatform, TensorFlowServable
from serving.loaders.tensorflow_options import TensorFlowOptions

M1 = ServableId("m", 1)
CPU_1 = Device("cpu", 1)


@pytest.fixture(scope="module")
def platform() -> TensorFlowPlatform:
    """Two devices: threads of the same processors behind two names."""
    config = ConfigProto(device_count={"CPU": 2})
    return TensorFlowPlatform(TensorFlowOptions(session_config=config.SerializeToString()))


def devices_of_run(servable: TensorFlowServable, feeds: dict[str, Any], fetch: str) -> set[str]:
    """The devices that operations of a run are on."""
    told = RunMetadata()
    options = RunOptions(output_partition_graphs=True)
    servable._session._native.run(fetch, feeds, options=options, run_metadata=told)
    return {
        node.device.rpartition("device:")[2]
        for graph in told.partition_graphs
        for node in graph.node
        if node.op not in ("_Arg", "_Send", "_Recv", "_Retval")
    }


@pytest.mark.parametrize("exporter", [models.half_plus_two, models.half_plus_two_tf2])
@pytest.mark.parametrize("device", [CPU, CPU_1], ids=str)
def test_everything_runs_on_the_device(
    exported: Exported, platform: TensorFlowPlatform, exporter: Any, device: Device
):
    """Also what lies in functions, as TensorFlow 2 exports it."""
    servable = platform.load(M1, str(exported(exporter)), device)
    try:
        signature = servable.signatures["serving_default"]
        (given,), (wanted,) = signature.inputs.values(), signature.outputs.values()
        feeds = {given.name: np.full([1 for _ in given.shape], 2.0, np.float32)}
        assert devices_of_run(servable, feeds, wanted.name) == {str(device).upper()}
        for _ in range(20):  # in the caller's thread too, once it is quick
            (y,) = run_and_wait(servable, feeds, [wanted.name])
            assert y.ravel().tolist() == [3.0]
    finally:
        servable.close()


@pytest.mark.parametrize("device", [Device("gpu", 3), Device("cpu", 2)], ids=str)
def test_a_device_that_tensorflow_does_not_have_is_named_with_the_model(
    exported: Exported, platform: TensorFlowPlatform, device: Device
):
    with pytest.raises(FailedPrecondition) as raised:
        platform.load(M1, str(exported(models.half_plus_two)), device)
    assert raised.value.message == (
        f"{{name: m version: 1}} is to run on {device}, which its platform does not have here; "
        "it has cpu:0, cpu:1"
    )


def test_on_the_processor_no_gpu_is_seen_and_quick_runs_use_the_frozen_graph(exported: Exported):
    servable = TensorFlowPlatform(TensorFlowOptions()).load(
        M1, str(exported(models.half_plus_two)), CPU
    )
    try:
        assert servable._session._config.device_count["GPU"] == 0
        assert "GPU" in servable._session._config.device_count
        assert servable._session._native.frozen is not None
    finally:
        servable.close()
