"""SessionBundles through the tensorflow platform: what loads, what runs, and how it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import exported_models
import numpy as np
import pytest
import session_bundles as bundles
import tensorflow as tf
from exported_models import Exported
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef
from tensorflow.core.protobuf.saver_pb2 import SaverDef

from serving.core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unimplemented,
)
from serving.core.servable import Servable, run_and_wait
from serving.core.servable_id import ServableId
from serving.generated.session_bundle_manifest_pb2 import AssetFile, Signatures
from serving.loaders.device import CPU
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions

ID = ServableId("m", 1)
SAVERS: dict[str, dict[str, Any]] = {
    "sharded, as at first": bundles.SHARDED_V1,
    "in one file": {"sharded": False, "write_version": SaverDef.V1},
    "in the newer format": {"sharded": False, "write_version": SaverDef.V2},
}


def load(path: Path, **options: Any) -> Servable:
    return TensorFlowPlatform(TensorFlowOptions()).load(ID, str(path), **options)


@pytest.fixture
def broken(exported: Exported, tmp_path: Path) -> Path:
    """A copy of half_plus_two to damage."""
    return Path(shutil.copytree(exported(bundles.half_plus_two), tmp_path / "1"))


def call(servable: Servable, signature: str, **inputs: object) -> dict[str, Any]:
    """The outputs of a signature by alias; inputs by alias."""
    found = servable.signatures[signature]
    feeds = {found.inputs[alias].name: np.asarray(value) for alias, value in inputs.items()}
    values = run_and_wait(servable, feeds, [info.name for info in found.outputs.values()])
    return {alias: value.tolist() for alias, value in zip(found.outputs, values, strict=True)}


def signatures_of(meta_graph: MetaGraphDef) -> Signatures:
    signatures = Signatures()
    assert meta_graph.collection_def["serving_signatures"].any_list.value[0].Unpack(signatures)
    return signatures


def edit_signatures(directory: Path, change: Callable[[Signatures], object]) -> None:
    def changed(meta_graph: MetaGraphDef) -> None:
        signatures = signatures_of(meta_graph)
        change(signatures)
        meta_graph.collection_def["serving_signatures"].any_list.value[0].Pack(signatures)

    bundles.edit(directory, changed)


class TestWhatLoads:
    @pytest.mark.parametrize("saver", SAVERS.values(), ids=SAVERS)
    def test_variables_are_restored(self, saver: dict[str, Any], tmp_path: Path) -> None:
        bundles.half_plus_two(tmp_path / "1", **saver)
        servable = load(tmp_path / "1")
        for _ in range(3):
            assert call(servable, "predict", x=np.float32([1, 2])) == {"y": [2.5, 3.0]}

    def test_signatures_say_what_they_are_for(self, exported: Exported) -> None:
        """A generic one by itself does not tell inputs from outputs, and is left out."""
        signatures = load(exported(bundles.half_plus_two)).signatures
        assert {name: each.method_name for name, each in signatures.items()} == {
            "classify": exported_models.CLASSIFY,
            "predict": exported_models.PREDICT,
            "regress": exported_models.REGRESS,
            "serving_default": exported_models.REGRESS,
        }
        assert list(signatures["classify"].outputs) == ["classes", "scores"]
        assert signatures["predict"].inputs["x"].shape == (None,)

    def test_named_inputs_and_outputs_are_the_default_where_there_is_no_other(
        self, broken: Path
    ) -> None:
        edit_signatures(broken, lambda signatures: signatures.ClearField("default_signature"))
        servable = load(broken)
        assert "predict" not in servable.signatures
        assert call(servable, "serving_default", x=np.float32([4])) == {"y": [4.0]}

    def test_examples_are_classified_and_regressed(self, exported: Exported) -> None:
        servable = load(exported(bundles.half_plus_two))
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[4.0]))
        example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
        inputs = np.array([example.SerializeToString()], object)
        assert call(servable, "classify", inputs=inputs) == {
            "classes": [[b"large"]],
            "scores": [[4.0]],
        }
        assert call(servable, "regress", inputs=inputs) == {"outputs": [[4.0]]}

    def test_assets_travel_with_the_export_and_the_init_operation_reads_them(
        self, exported: Exported, tmp_path: Path
    ) -> None:
        elsewhere = Path(shutil.copytree(exported(bundles.words), tmp_path / "7"))
        words = np.array([b"c", b"a", b"nowhere"], object)
        assert call(load(elsewhere), "serving_default", word=words) == {"id": [2, 0, -1]}

    def test_the_graph_for_serving_comes_before_the_graph_of_the_export(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            packed = meta_graph.collection_def["serving_graph"].any_list.value.add()
            packed.Pack(meta_graph.graph_def)
            meta_graph.ClearField("graph_def")

        bundles.edit(broken, change)
        assert call(load(broken), "predict", x=np.float32([1])) == {"y": [2.5]}

    def test_it_runs_on_the_device_that_is_asked_for(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            for node in meta_graph.graph_def.node:
                node.device = "/job:worker/task:7/device:GPU:3"

        bundles.edit(broken, change)
        assert call(load(broken, device=CPU), "predict", x=np.float32([1])) == {"y": [2.5]}

    def test_a_saved_model_beside_it_is_what_is_served(
        self, exported: Exported, broken: Path
    ) -> None:
        shutil.copytree(exported(exported_models.half_plus_two), broken, dirs_exist_ok=True)
        assert "classify_x_to_y" in load(broken).signatures

    def test_without_signatures_there_is_nothing_to_call(self, broken: Path) -> None:
        bundles.edit(broken, lambda meta_graph: meta_graph.ClearField("collection_def"))
        assert load(broken).signatures == {}


class TestWhatDoesNotLoad:
    def refused(self, directory: Path, error: type[ServingError], text: str) -> None:
        with pytest.raises(error, match=text) as caught:
            load(directory)
        assert type(caught.value) is error

    @pytest.mark.parametrize("content", [b"garbage", b"\x0a"])
    def test_a_meta_graph_that_does_not_parse(self, broken: Path, content: bytes) -> None:
        (broken / "export.meta").write_bytes(content)
        self.refused(broken, DataLoss, "Can't parse .*export.meta as binary proto")

    def test_an_empty_meta_graph_has_no_signatures(self, broken: Path) -> None:
        """No bytes at all are a message without fields."""
        (broken / "export.meta").write_bytes(b"")
        self.refused(broken, InvalidArgument, "export.meta has no graph")

    def test_a_truncated_meta_graph(self, broken: Path) -> None:
        file = broken / "export.meta"
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        self.refused(broken, DataLoss, "Can't parse")

    @pytest.mark.parametrize("kept", [0.0, 0.5])
    def test_a_checkpoint_that_is_cut_short(self, broken: Path, kept: float) -> None:
        file = broken / "export-00000-of-00001"
        file.write_bytes(file.read_bytes()[: int(file.stat().st_size * kept)])
        self.refused(broken, DataLoss, "Unable to open table file")

    def test_a_checkpoint_that_is_missing(self, broken: Path) -> None:
        (broken / "export-00000-of-00001").unlink()
        self.refused(broken, NotFound, "Unsuccessful TensorSliceReader constructor")

    def test_a_checkpoint_of_another_model(self, exported: Exported, broken: Path) -> None:
        other = exported(bundles.words) / "export-00000-of-00001"
        shutil.copy(other, broken / "export-00000-of-00001")
        self.refused(broken, NotFound, "not found in checkpoint")

    @pytest.mark.parametrize("filename", ["../secret", "/etc/passwd", "a/../../secret", "", "."])
    def test_asset_files_outside_of_the_export(
        self, exported: Exported, tmp_path: Path, filename: str
    ) -> None:
        directory = Path(shutil.copytree(exported(bundles.words), tmp_path / "1"))
        (directory / "secret").write_text("a")

        def change(meta_graph: MetaGraphDef) -> None:
            (packed,) = meta_graph.collection_def["serving_assets"].any_list.value
            asset = AssetFile()
            assert packed.Unpack(asset)
            asset.filename = filename
            packed.Pack(asset)

        bundles.edit(directory, change)
        self.refused(directory, InvalidArgument, "is not below the directory assets")

    def test_an_asset_that_leads_out_of_the_export(
        self, exported: Exported, tmp_path: Path
    ) -> None:
        directory = Path(shutil.copytree(exported(bundles.words), tmp_path / "1"))
        (asset,) = (directory / "assets").iterdir()
        asset.unlink()
        asset.symlink_to("/etc/passwd")
        self.refused(directory, InvalidArgument, "is not below the directory assets")

    def test_a_directory_of_assets_that_leads_out_of_the_export(
        self, exported: Exported, tmp_path: Path
    ) -> None:
        directory = Path(shutil.copytree(exported(bundles.words), tmp_path / "1"))
        (directory / "assets").rename(tmp_path / "elsewhere")
        (directory / "assets").symlink_to(tmp_path / "elsewhere")
        self.refused(directory, InvalidArgument, "is not below the directory assets")

    def test_a_version_may_be_a_link(self, exported: Exported, tmp_path: Path) -> None:
        (tmp_path / "1").symlink_to(exported(bundles.words))
        load(tmp_path / "1").close()

    def test_an_asset_that_is_missing(self, exported: Exported, tmp_path: Path) -> None:
        directory = Path(shutil.copytree(exported(bundles.words), tmp_path / "1"))
        shutil.rmtree(directory / "assets")
        self.refused(directory, NotFound, "asset file '.*words.txt' of export.meta does not exist")

    def test_a_generic_default(self, broken: Path) -> None:
        def change(signatures: Signatures) -> None:
            generic = signatures.named_signatures["inputs"]
            signatures.default_signature.CopyFrom(generic)

        edit_signatures(broken, change)
        self.refused(broken, Unimplemented, "Only classification and regression default")

    def test_inputs_without_outputs(self, broken: Path) -> None:
        edit_signatures(broken, lambda signatures: signatures.named_signatures.pop("outputs"))
        self.refused(broken, InvalidArgument, "'inputs' and 'outputs' one is missing")

    def test_a_tensor_that_is_not_in_the_graph(self, broken: Path) -> None:
        def change(signatures: Signatures) -> None:
            signatures.default_signature.regression_signature.output.tensor_name = "nowhere:0"

        edit_signatures(broken, change)
        self.refused(broken, InvalidArgument, "nowhere:0.* was not found in the Graph")

    def test_several_graphs_for_serving(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            for _ in range(2):
                meta_graph.collection_def["serving_graph"].any_list.value.add().Pack(GraphDef())

        bundles.edit(broken, change)
        self.refused(broken, FailedPrecondition, "exactly one tensorflow.GraphDef .* found 2")

    def test_a_collection_of_something_else(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            meta_graph.collection_def["serving_signatures"].any_list.value[0].Pack(GraphDef())

        bundles.edit(broken, change)
        self.refused(broken, FailedPrecondition, "Got: type.googleapis.com/tensorflow.GraphDef")

    def test_a_collection_that_does_not_parse(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            meta_graph.collection_def["serving_signatures"].any_list.value[0].value = b"\x0a"

        bundles.edit(broken, change)
        self.refused(broken, DataLoss, "collection serving_signatures")

    def test_several_init_operations(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            meta_graph.collection_def["serving_init_op"].node_list.value.extend(["a", "b"])

        bundles.edit(broken, change)
        self.refused(broken, FailedPrecondition, "exactly one serving init op .* found 2")

    def test_an_init_operation_that_there_is_not(self, broken: Path) -> None:
        def change(meta_graph: MetaGraphDef) -> None:
            meta_graph.collection_def["serving_init_op"].node_list.value.append("nowhere")

        bundles.edit(broken, change)
        self.refused(broken, InvalidArgument, "Operation nowhere")
