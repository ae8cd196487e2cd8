"""What an export says of its own session is merged into the settings it is loaded with."""

from __future__ import annotations

import base64
import shutil
from pathlib import Path

import exported_models as models
import numpy as np
import pytest
from exported_models import Exported
from tensorflow.core.protobuf.config_pb2 import ConfigProto

from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.generated.saved_model_config_pb2 import SavedModelConfig
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tensorflow_overrides import overridden


def written(directory: Path, content: bytes) -> str:
    (directory / "assets.extra").mkdir(exist_ok=True)
    (directory / "assets.extra" / "saved_model_config.pb").write_bytes(content)
    return str(directory)


def overrides(**fields: object) -> bytes:
    return SavedModelConfig(session_overrides=fields).SerializeToString()


@pytest.fixture
def base() -> ConfigProto:
    config = ConfigProto(intra_op_parallelism_threads=3)
    rewrites = config.graph_options.rewrite_options
    rewrites.disable_meta_optimizer = True
    rewrites.custom_optimizers.add(name="batch_op_rewriter").parameter_map["kept"].i = 1
    return config


def test_an_export_that_says_nothing_changes_nothing(tmp_path: Path, base: ConfigProto):
    assert overridden(base, str(tmp_path)) is base
    assert overridden(base, written(tmp_path, b"")) is base


def test_rewriters_get_what_the_export_has_for_them(tmp_path: Path, base: ConfigProto):
    """In base 64, by TensorFlow Serving's names; one that the settings have keeps the rest."""
    before = ConfigProto.FromString(base.SerializeToString())
    content = overrides(remote_op_remap_config=b"\xff\x01", batch_op_rewriter_config=b"B")
    found = overridden(base, written(tmp_path, content))
    batch, remote = found.graph_options.rewrite_options.custom_optimizers
    assert batch.name == "batch_op_rewriter"
    assert batch.parameter_map["batch_op_rewrite_config"].s == base64.b64encode(b"B")
    assert batch.parameter_map["kept"].i == 1
    assert remote.name == "remote_op_config_rewrite"
    assert remote.parameter_map["remote_op_rewrite_config"].s == base64.b64encode(b"\xff\x01")
    assert found.intra_op_parallelism_threads == 3
    assert base == before


@pytest.mark.parametrize("disabled", [True, False])
def test_the_meta_optimizer_is_as_the_export_says(
    tmp_path: Path, base: ConfigProto, disabled: bool
):
    found = overridden(base, written(tmp_path, overrides(disable_meta_optimizer=disabled)))
    assert found.graph_options.rewrite_options.disable_meta_optimizer is disabled


def test_a_file_that_does_not_parse_is_only_reported(
    tmp_path: Path, base: ConfigProto, caplog: pytest.LogCaptureFixture
):
    assert overridden(base, written(tmp_path, b"\xff")) is base
    assert "Unable to parse SavedModelConfig" in caplog.text


def test_the_session_of_a_version_has_its_overrides(exported: Exported, tmp_path: Path):
    directory = Path(shutil.copytree(exported(models.half_plus_two), tmp_path / "1"))
    written(directory, overrides(disable_meta_optimizer=True, batch_op_rewriter_config=b""))
    servable = TensorFlowPlatform(TensorFlowOptions()).load(ServableId("m", 1), str(directory))
    rewrites = servable._session._config.graph_options.rewrite_options
    assert rewrites.disable_meta_optimizer
    (y,) = run_and_wait(servable, {"x:0": np.float32([[2]])}, ["y:0"])
    assert y.tolist() == [[3]]
    servable.close()
