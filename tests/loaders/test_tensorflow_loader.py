"""SavedModels through the tensorflow platform: what loads, what runs, and how it fails."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import time
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import exported_models as models
import numpy as np
import pytest
import tensorflow as tf
from exported_models import Exported
from tensorflow.core.framework import types_pb2
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.config_pb2 import ConfigProto, OptimizerOptions
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import (
    Code,
    DataLoss,
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable import RunOptions, Servable, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tensorflow_graph import may_run_long
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tensorflow_session import TensorFlowSession
from serving.loaders.tensorflow_session_config import session_config
from serving.loaders.tensorflow_signatures import signature_of
from serving.loaders.tensorflow_step import Step
from serving.testing import FakeClock

ID = ServableId("m", 1)
Loaded = Callable[..., Servable]


def load(path: Path, options: TensorFlowOptions | None = None) -> Servable:
    return TensorFlowPlatform(options or TensorFlowOptions()).load(ID, str(path))


@pytest.fixture(scope="module")
def loaded(exported: Exported) -> Loaded:
    """The servable of an exporter, loaded once for all tests that only run it."""
    servables: dict[str, Servable] = {}

    def get(exporter: Callable[..., None]) -> Servable:
        if exporter.__name__ not in servables:
            servables[exporter.__name__] = load(exported(exporter))
        return servables[exporter.__name__]

    return get


@pytest.fixture
def broken(exported: Exported, tmp_path: Path) -> Path:
    """A copy of half_plus_two to damage."""
    return Path(shutil.copytree(exported(models.half_plus_two), tmp_path / "1"))


def call(servable: Servable, signature: str = "serving_default", **inputs: object) -> dict:
    """The outputs of a signature by alias; inputs by alias."""
    found = servable.signatures[signature]
    feeds = {found.inputs[alias].name: np.asarray(value) for alias, value in inputs.items()}
    values = run_and_wait(servable, feeds, [info.name for info in found.outputs.values()])
    return dict(zip(found.outputs, values, strict=True))


def floats(*values: object) -> np.ndarray:
    return np.array(values, np.float32)


def aligned(array: np.ndarray) -> np.ndarray:
    """A copy in memory that the runtime takes as it is: aligned to 64 bytes."""
    memory = np.zeros(array.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[:] = array
    return copy


def graph_of(directory: Path) -> GraphDef:
    saved_model = SavedModel.FromString((directory / "saved_model.pb").read_bytes())
    return saved_model.meta_graphs[0].graph_def


def edit(directory: Path, change: Callable[[SavedModel], object]) -> None:
    file = directory / "saved_model.pb"
    saved_model = SavedModel.FromString(file.read_bytes())
    change(saved_model)
    file.write_bytes(saved_model.SerializeToString())


class TestWhatLoads:
    def test_tf1_export_with_several_signatures(self, loaded: Loaded) -> None:
        servable = loaded(models.half_plus_two)
        assert list(servable.signatures) == [
            "classify_x_to_y",
            "regress_x2_to_y3",
            "regress_x_to_y",
            "regress_x_to_y2",
            "serving_default",
        ]
        assert call(servable, x=floats([1], [2]))["y"].tolist() == [[2.5], [3.0]]
        feature = tf.train.Feature(float_list=tf.train.FloatList(value=[4.0]))
        example = tf.train.Example(features=tf.train.Features(feature={"x": feature}))
        inputs = np.array([example.SerializeToString()], object)
        assert call(servable, "regress_x_to_y2", inputs=inputs)["outputs"].tolist() == [[5.0]]

    def test_tf2_export(self, loaded: Loaded) -> None:
        outputs = call(loaded(models.half_plus_two_tf2), x=floats(1, 2))
        assert outputs["y"].tolist() == [2.5, 3.0]

    def test_keras_export(self, loaded: Loaded) -> None:
        (total,) = call(loaded(models.keras_model), features=floats([1, 2])).values()
        assert total.tolist() == [[3.0]]

    def test_assets_and_tables_are_initialised(self, loaded: Loaded) -> None:
        words = np.array([b"c", b"a", b"nowhere"], object)
        assert call(loaded(models.vocabulary), word=words)["id"].tolist() == [2, 0, -1]

    @pytest.mark.parametrize("exporter", [models.main_op, models.legacy_init_op])
    def test_init_operations_run_at_load(
        self, loaded: Loaded, exporter: Callable[..., None]
    ) -> None:
        assert call(loaded(exporter), x=floats(1))["y"].tolist() == [8.0]

    def test_a_text_saved_model(self, broken: Path) -> None:
        saved_model = SavedModel.FromString((broken / "saved_model.pb").read_bytes())
        (broken / "saved_model.pb").unlink()
        (broken / "saved_model.pbtxt").write_text(str(saved_model))
        assert call(load(broken), x=floats([1]))["y"].tolist() == [[2.5]]

    def test_tags_match_as_a_set(self, exported: Exported) -> None:
        servable = load(exported(models.tagged), TensorFlowOptions(tags=("gpu", "serve")))
        assert call(servable, x=floats(2))["y"].tolist() == [3.0]

    def test_several_threads_may_load_at_once(self, exported: Exported) -> None:
        directories = [exported(models.version_number, n) for n in range(1, 7)]
        with ThreadPoolExecutor(6) as pool:
            servables = list(pool.map(load, directories))
        answers = [call(servable, x=floats(0))["version"].tolist() for servable in servables]
        assert answers == [[1], [2], [3], [4], [5], [6]]

    def test_options_need_no_tensorflow(self) -> None:
        program = (
            "import sys, serving.loaders.tensorflow_options; 'tensorflow' in sys.modules and 1/0"
        )
        subprocess.run([sys.executable, "-c", program], check=True)

    def test_estimate_is_1_2_times_the_files(self, exported: Exported, tmp_path: Path) -> None:
        directory = exported(models.half_plus_two)
        size = sum(file.stat().st_size for file in directory.rglob("*") if file.is_file())
        platform = TensorFlowPlatform(TensorFlowOptions())
        assert platform.estimate(str(directory)) == ResourceAllocation.ram(int(1.2 * size))
        assert platform.estimate(str(tmp_path / "gone")) == ResourceAllocation.ram(0)

    def test_estimate_counts_linked_directories_and_goes_round_no_circle(
        self, tmp_path: Path
    ) -> None:
        """Two links to where they are lead to 2^40 paths before the system sees a circle."""
        version, elsewhere = tmp_path / "1", tmp_path / "elsewhere"
        for directory in (version, elsewhere):
            directory.mkdir()
            (directory / "file").write_bytes(b"x" * 50)
        for name in ("one", "two"):
            (version / name).symlink_to(".")
        (version / "variables").symlink_to(elsewhere)
        platform = TensorFlowPlatform(TensorFlowOptions())
        assert platform.estimate(str(version)) == ResourceAllocation.ram(120)


class TestWhatDoesNotLoad:
    def test_no_saved_model(self, tmp_path: Path) -> None:
        with pytest.raises(NotFound) as caught:
            load(tmp_path)
        assert caught.value.message == (
            "Specified file path does not appear to contain a SavedModel bundle (should have a "
            f"file called `saved_model.pb`)\nSpecified file path: {tmp_path}"
        )

    @pytest.mark.parametrize("tags", [("serve",), ("gpu",), ("serve", "gpu", "tpu"), ()])
    def test_tags_that_no_graph_has_exactly(
        self, exported: Exported, tags: tuple[str, ...]
    ) -> None:
        with pytest.raises(NotFound, match="Could not find meta graph def matching supplied tags"):
            load(exported(models.tagged), TensorFlowOptions(tags=tags))

    def test_empty_file(self, broken: Path) -> None:
        (broken / "saved_model.pb").write_bytes(b"")
        with pytest.raises(NotFound, match=r"matching supplied tags: \{ serve \}"):
            load(broken)

    @pytest.mark.parametrize("name", ["saved_model.pb", "saved_model.pbtxt"])
    def test_corrupt_file(self, tmp_path: Path, name: str) -> None:
        (tmp_path / name).write_bytes(b"\xffgarbage")
        with pytest.raises(DataLoss, match=f"Can't parse .*{name} as"):
            load(tmp_path)

    def test_unreadable_file(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").mkdir()
        with pytest.raises(ServingError, match=r"saved_model\.pb"):
            load(tmp_path)

    @pytest.mark.parametrize(
        ("file", "content", "code", "text"),
        [
            ("variables.index", b"", Code.DATA_LOSS, "too short to be an sstable"),
            ("variables.data-00000-of-00001", b"x", Code.OUT_OF_RANGE, "Read less bytes"),
            ("variables.data-00000-of-00001", None, Code.NOT_FOUND, "No such file or directory"),
        ],
    )
    def test_damaged_variables_are_reported_in_the_runtimes_words(
        self, broken: Path, file: str, content: bytes | None, code: Code, text: str
    ) -> None:
        damaged = broken / "variables" / file
        damaged.unlink() if content is None else damaged.write_bytes(content)
        with pytest.raises(ServingError, match=text) as caught:
            load(broken)
        assert caught.value.code is code
        assert "Detected at node" not in caught.value.message
        assert ".py" not in caught.value.message

    def test_missing_variables(self, broken: Path) -> None:
        shutil.rmtree(broken / "variables")
        with pytest.raises(InvalidArgument, match=r"the model cannot be loaded: .*checkpoint"):
            load(broken)

    def test_unknown_operation(self, broken: Path) -> None:
        def change(saved_model: SavedModel) -> None:
            saved_model.meta_graphs[0].graph_def.node[0].op = "NoSuchOp"

        edit(broken, change)
        with pytest.raises(NotFound, match="Op type not registered 'NoSuchOp'"):
            load(broken)

    def test_graph_with_nodes_missing(self, broken: Path) -> None:
        edit(broken, lambda saved_model: saved_model.meta_graphs[0].graph_def.ClearField("node"))
        with pytest.raises(InvalidArgument, match=r"the model cannot be loaded: .*'a:0'"):
            load(broken)

    def test_signature_of_a_type_that_cannot_travel(self, broken: Path) -> None:
        def change(saved_model: SavedModel) -> None:
            signature = saved_model.meta_graphs[0].signature_def["serving_default"]
            signature.inputs["x"].dtype = types_pb2.DT_INT4

        edit(broken, change)
        with pytest.raises(InvalidArgument, match="signature 'serving_default': 'x' has element"):
            load(broken)


class TestSignatures:
    def test_tensors_method_and_definition(self, loaded: Loaded) -> None:
        signature = loaded(models.half_plus_two).signatures["classify_x_to_y"]
        assert signature.inputs == {"inputs": TensorInfo("tf_example:0", DType.STRING, (None,))}
        assert signature.outputs == {"scores": TensorInfo("y:0", DType.FLOAT, (None, 1))}
        assert signature.method_name == "tensorflow/serving/classify"
        encoded = SignatureDef.FromString(signature.encoded)
        assert encoded.inputs["inputs"].name == "tf_example:0"
        assert encoded.method_name == signature.method_name

    def test_aliases_are_sorted(self, loaded: Loaded) -> None:
        signature = loaded(models.identities).signatures["serving_default"]
        assert list(signature.inputs) == sorted(signature.inputs)
        assert list(signature.outputs) == sorted(signature.outputs)

    def test_unknown_rank_is_no_shape(self, loaded: Loaded) -> None:
        signature = loaded(models.identities).signatures["float32"]
        assert signature.inputs["float32"].shape is None

    def test_defaults_become_arrays(self, loaded: Loaded) -> None:
        signature = loaded(models.with_defaults).signatures["serving_default"]
        assert signature.defaults == {"scale": np.float32(3)}
        assert signature.defaults["scale"].dtype == np.float32

    def test_init_op_of_tf2_exports_is_listed(self, loaded: Loaded) -> None:
        signature = loaded(models.half_plus_two_tf2).signatures["__saved_model_init_op"]
        assert signature.inputs == {}
        assert signature.outputs == {}
        assert "__saved_model_init_op" in SignatureDef.FromString(signature.encoded).outputs

    def test_reference_types_count_as_what_they_refer_to(self) -> None:
        definition = SignatureDef()
        definition.outputs["y"].dtype = types_pb2.DT_FLOAT_REF
        assert signature_of(definition).outputs["y"].dtype is DType.FLOAT


class TestRun:
    @pytest.mark.parametrize("dtype", models.IDENTITY_DTYPES, ids=lambda dtype: dtype.name)
    @pytest.mark.parametrize("shape", [(), (3,), (0, 2)])
    def test_every_element_type_and_rank_passes_unchanged(
        self, loaded: Loaded, dtype: tf.DType, shape: tuple[int, ...]
    ) -> None:
        servable = loaded(models.identities)
        info = servable.signatures[dtype.name].inputs[dtype.name]
        elements = np.arange(np.prod(shape, dtype=int)).reshape(shape)
        array = np.asarray(elements.astype("S") if dtype == tf.string else elements).astype(
            numpy_dtype(info.dtype)
        )
        result = call(servable, dtype.name, **{dtype.name: array})[dtype.name]
        assert type(result) is np.ndarray
        assert result.dtype == array.dtype
        assert result.shape == shape
        assert result.tolist() == array.tolist()

    @pytest.mark.parametrize(
        "text", [np.array(["é", ""]), np.array([b"\xc3\xa9", b""]), np.array(["é", ""], object)]
    )
    def test_text_goes_in_as_any_kind_of_string_and_comes_out_as_bytes(
        self, loaded: Loaded, text: np.ndarray
    ) -> None:
        outputs = call(loaded(models.strings), text=text)
        assert outputs["shout"].tolist() == [b"\xc3\xa9!", b"!"]
        assert outputs["length"].tolist() == [2, 0]

    def test_strings_may_hold_any_bytes(self, loaded: Loaded) -> None:
        data = np.array([b"\x00\xff\x00"], object)
        outputs = call(loaded(models.bytes_out), data=data)
        assert outputs["data_bytes"].tolist() == [b"\x00\xff\x00"]
        assert outputs["data_text"].tolist() == [b"AP8A"]

    def test_arrays_need_not_be_contiguous(self, loaded: Loaded) -> None:
        a = np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2].T
        b = np.asfortranarray(np.arange(6, dtype=np.float32).reshape(3, 2))
        assert call(loaded(models.matmul), a=a, b=b)["y"].tolist() == (a @ b).tolist()

    def test_a_shape_unlike_the_signature_is_the_operations_business(self, loaded: Loaded) -> None:
        assert call(loaded(models.half_plus_two), x=floats(1, 2))["y"].tolist() == [2.5, 3.0]

    def test_a_tensor_may_be_fetched_twice_and_in_any_order(self, loaded: Loaded) -> None:
        servable = loaded(models.half_plus_two)
        values = run_and_wait(servable, {"x:0": floats([0])}, ["y2:0", "y:0", "y2:0"])
        assert [value.tolist() for value in values] == [[[3.0]], [[2.0]], [[3.0]]]

    def test_an_output_index_of_0_may_be_left_out_of_a_name(self, loaded: Loaded) -> None:
        (y,) = run_and_wait(loaded(models.half_plus_two), {"x": floats([0])}, ["y"])
        assert y.tolist() == [[2.0]]

    def test_results_cannot_write_into_the_graphs_constants(self, loaded: Loaded) -> None:
        servable = loaded(models.constant)
        for _ in range(40):  # on the pool and on the caller's thread
            c = call(servable)["c"]
            with pytest.raises(ValueError, match="read-only"):
                c[0] = 99.0
        assert call(servable)["c"].tolist() == [1.0, 2.0]

    def test_feeds_are_not_written_to_even_where_the_runtime_uses_their_memory(
        self, loaded: Loaded
    ) -> None:
        servable = loaded(models.half_plus_two)
        x = aligned(floats([1]))
        for _ in range(40):  # on the pool, then in this thread
            assert call(servable, x=x)["y"].tolist() == [[2.5]]
            assert x.tolist() == [[1.0]]

    def test_results_stay_valid_when_the_feeds_are_gone(self, loaded: Loaded) -> None:
        servable = loaded(models.identities)
        for _ in range(40):
            sent = aligned(np.full(100_000, 7.0, np.float32))
            (received,) = call(servable, "float32", float32=sent).values()
            del sent
            gc.collect(0)
            np.zeros(100_000, np.float32)  # what was freed would be taken for this
            assert (received == 7.0).all()

    def test_many_threads_get_their_own_answers(self, loaded: Loaded) -> None:
        servable = loaded(models.half_plus_two)

        def many(start: int) -> bool:
            return all(
                call(servable, x=floats([n]))["y"].tolist() == [[n / 2 + 2]]
                for n in range(start, start + 200)
            )

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(many, range(0, 1600, 200)))


class TestRunErrors:
    def test_wrong_type_is_named_by_argument_in_sorted_order(self, loaded: Loaded) -> None:
        feeds = {"b:0": np.ones((1, 1), np.int32), "a:0": np.ones((1, 1), np.float32)}
        with pytest.raises(InvalidArgument) as caught:
            run_and_wait(loaded(models.matmul), feeds, ["y:0"])
        assert caught.value.message == "Expects arg[1] to be float but int32 is provided"

    @pytest.mark.parametrize(
        ("array", "name"), [(np.array(["1"]), "string"), (np.array([1.5]), "double")]
    )
    def test_wrong_type_is_said_in_the_sessions_words(
        self, loaded: Loaded, array: np.ndarray, name: str
    ) -> None:
        with pytest.raises(InvalidArgument) as caught:
            call(loaded(models.half_plus_two), x=array)
        assert caught.value.message == f"Expects arg[0] to be float but {name} is provided"

    @pytest.mark.parametrize("dtype", [">f4", "M8[s]"])
    def test_foreign_byte_orders_and_types_are_refused(self, loaded: Loaded, dtype: str) -> None:
        with pytest.raises(InvalidArgument, match="no tensor type for numpy type"):
            call(loaded(models.half_plus_two), x=np.zeros(1, dtype))

    def test_operations_fail_with_the_runtimes_text_alone(self, loaded: Loaded) -> None:
        servable = loaded(models.matmul)
        for _ in range(20):
            call(servable, a=np.ones((2, 3), np.float32), b=np.ones((3, 2), np.float32))
            with pytest.raises(InvalidArgument) as caught:  # on the pool, then in this thread
                call(servable, a=np.ones((2, 3), np.float32), b=np.ones((4, 2), np.float32))
            assert caught.value.message == (
                "Matrix size-incompatible: In[0]: [2,3], In[1]: [4,2]\n\t [[{{node y}}]]"
            )

    def test_a_text_that_is_not_utf8_is_shown_with_replacements(self, loaded: Loaded) -> None:
        servable = loaded(models.numbers)
        for _ in range(20):
            assert call(servable, text=[b"1.5"])["y"].tolist() == [1.5]
            with pytest.raises(InvalidArgument) as caught:  # on the pool, then in this thread
                call(servable, text=[b"\xffa\xc3\xa9"])
            assert caught.value.message == (
                "StringToNumberOp could not correctly convert string: \ufffda\xe9"
                "\n\t [[{{node y}}]]"
            )

    def test_placeholder_that_nobody_fed(self, loaded: Loaded) -> None:
        with pytest.raises(InvalidArgument) as caught:
            call(loaded(models.unfed_placeholder), x=np.ones((1, 4), np.float32))
        assert caught.value.message == (
            "You must feed a value for placeholder tensor 'z' with dtype float and shape [?,4]"
            "\n\t [[{{node z}}]]"
        )

    @pytest.mark.parametrize(
        ("feed", "fetch", "missing"),
        [("x:0", "no:0", "no:0"), ("no:0", "y:0", "no:0"), ("x:0", "y:1", "y:1"), ("x:0", "", "")],
    )
    def test_names_that_the_graph_lacks(
        self, loaded: Loaded, feed: str, fetch: str, missing: str
    ) -> None:
        with pytest.raises(InvalidArgument) as caught:
            run_and_wait(loaded(models.half_plus_two), {feed: floats([1])}, [fetch])
        assert caught.value.message == (
            f"Tensor {missing}, specified in either feed_devices or fetch_devices was not found "
            "in the Graph"
        )

    def test_tensors_that_hold_no_data(self, loaded: Loaded) -> None:
        servable = loaded(models.half_plus_two)
        graph = servable._session._native.graph
        resource = next(op for op in graph.get_operations() if op.type == "VarHandleOp")
        with pytest.raises(InvalidArgument, match="tensors of type resource have no elements"):
            run_and_wait(servable, {}, [resource.outputs[0].name])

    def test_a_result_is_delivered_once_even_for_a_defect(self, loaded: Loaded) -> None:
        results: list[object] = []
        loaded(models.half_plus_two).run({"x:0": None}, ["y:0"], RunOptions(), results.append)
        (error,) = results
        assert isinstance(error, ServingError)
        assert error.code is Code.INTERNAL
        assert error.message == "the run failed unexpectedly"


class TestDeadline:
    def test_ends_a_run(self, loaded: Loaded) -> None:
        options = RunOptions(deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
            run_and_wait(loaded(models.slow), {"x:0": floats(0)}, ["y:0"], options)

    @pytest.mark.parametrize("exporter", [models.turns, models.turns_tf2])
    def test_ends_a_run_that_takes_longer_than_all_before(
        self, loaded: Loaded, exporter: Callable[..., None]
    ) -> None:
        servable = loaded(exporter)
        signature = servable.signatures["serving_default"]
        feed, fetch = signature.inputs["turns"].name, signature.outputs["y"].name
        for seconds in (60, None, 60):
            for turns in range(20):
                options = RunOptions(seconds and time.monotonic() + seconds)
                (y,) = run_and_wait(servable, {feed: np.array(turns, np.int32)}, [fetch], options)
                assert y == turns
        forever = {feed: np.array(2**31 - 1, np.int32)}
        with pytest.raises(DeadlineExceeded, match="Timed out waiting for notification"):
            run_and_wait(servable, forever, [fetch], RunOptions(time.monotonic() + 0.3))

    def test_already_over_runs_nothing(self, loaded: Loaded) -> None:
        options = RunOptions(deadline=time.monotonic())
        with pytest.raises(DeadlineExceeded):
            run_and_wait(loaded(models.half_plus_two), {"x:0": floats([1])}, ["y:0"], options)

    @pytest.mark.parametrize("deadline", [60.0, 1e12, float("inf")])
    def test_far_away_changes_nothing(self, loaded: Loaded, deadline: float) -> None:
        options = RunOptions(deadline=time.monotonic() + deadline)
        servable = loaded(models.half_plus_two)
        (y,) = run_and_wait(servable, {"x:0": floats([1])}, ["y2:0"], options)
        assert y.tolist() == [[3.5]]


class TimedSession:
    """Passes everything on to a real session, notes which way each run went, and lets a run take
    ``seconds`` on a clock.
    """

    def __init__(self, native: Any, clock: FakeClock) -> None:
        self.native = native
        self.clock = clock
        self.seconds = 0.0
        self.graph = native.graph
        self.endpoint = native.endpoint
        self.ways: list[str] = []

    def run_on_pool(self, *arguments: object) -> list:
        self._passed("pool")
        return self.native.run_on_pool(*arguments)

    def callable_here(self, *arguments: object) -> Callable[..., list]:
        function = self.native.callable_here(*arguments)

        def run(*feeds: np.ndarray) -> list:
            self._passed("here")
            return function(*feeds)

        return run

    def _passed(self, way: str) -> None:
        self.ways.append(way)
        self.clock.advance(self.seconds)


class TestStep:
    @pytest.fixture
    def session(self, loaded: Loaded) -> TimedSession:
        return TimedSession(loaded(models.half_plus_two)._session._native, FakeClock())

    @pytest.fixture
    def step(self, session: TimedSession) -> Step:
        return Step(session, ["x:0"], ["y:0"], session.clock, may_run_long=False)

    @pytest.fixture
    def long_step(self, session: TimedSession) -> Step:
        """Of a graph that may run long."""
        return Step(session, ["x:0"], ["y:0"], session.clock, may_run_long=True)

    def run(self, step: Step, times: int, deadline: float | None = None) -> None:
        for _ in range(times):
            (y,) = step.run({"x:0": floats([1])}, deadline)
            assert y.tolist() == [[2.5]]

    @pytest.mark.parametrize("deadline", [None, 2000.0])
    def test_moves_to_the_callers_thread_after_quick_runs(
        self, step: Step, session: TimedSession, deadline: float | None
    ) -> None:
        self.run(step, 18, deadline)
        assert session.ways == ["pool"] * 16 + ["here"] * 2

    def test_a_deadline_keeps_what_may_run_long_on_the_pool(
        self, long_step: Step, session: TimedSession
    ) -> None:
        self.run(long_step, 40, deadline=2000.0)
        self.run(long_step, 17)
        self.run(long_step, 1, deadline=2000.0)
        self.run(long_step, 1)
        assert session.ways == ["pool"] * 56 + ["here", "pool", "here"]

    def test_stays_on_the_pool_while_runs_take_long(
        self, step: Step, session: TimedSession
    ) -> None:
        session.seconds = 0.005
        self.run(step, 40)
        assert session.ways == ["pool"] * 40

    def test_goes_back_to_the_pool_after_slow_runs(self, step: Step, session: TimedSession) -> None:
        self.run(step, 16)
        session.seconds = 0.1
        self.run(step, 4)
        session.seconds = 0.0
        self.run(step, 33)
        assert session.ways == ["pool"] * 16 + ["here"] * 4 + ["pool"] * 32 + ["here"]

    def test_a_wait_for_the_interpreter_changes_nothing(
        self, step: Step, session: TimedSession
    ) -> None:
        self.run(step, 16)
        session.seconds = 0.005
        self.run(step, 5)
        assert session.ways[16:] == ["here"] * 5

    def test_a_result_after_the_deadline_is_an_error_on_both_ways(
        self, step: Step, session: TimedSession
    ) -> None:
        for _ in range(2):
            session.seconds = 0.015
            with pytest.raises(DeadlineExceeded):
                self.run(step, 1, deadline=session.clock.monotonic() + 0.010)
            session.seconds = 0.0
            self.run(step, 16)
        assert session.ways.count("here") > 0


class TestMayRunLong:
    @pytest.mark.parametrize("exporter", [models.slow, models.turns, models.turns_tf2])
    def test_loops(self, exported: Exported, exporter: Callable[..., None]) -> None:
        assert may_run_long(graph_of(exported(exporter)))

    @pytest.mark.parametrize(
        "exporter",
        [models.half_plus_two, models.half_plus_two_tf2, models.keras_model, models.vocabulary],
    )
    def test_no_loops(self, exported: Exported, exporter: Callable[..., None]) -> None:
        assert not may_run_long(graph_of(exported(exporter)))

    def test_a_wait_for_another_run(self) -> None:
        with tf.Graph().as_default() as graph:
            tf.queue.FIFOQueue(1, [tf.float32]).dequeue()
        assert may_run_long(graph.as_graph_def())


class TestSession:
    @pytest.mark.parametrize(
        ("exporter", "feeds", "way"),
        [
            (models.half_plus_two, {"x:0": floats([1])}, "here"),
            (models.turns, {"turns:0": np.array(1, np.int32)}, "pool"),
        ],
    )
    def test_runs_with_a_deadline_go_where_the_graph_allows(
        self, exported: Exported, exporter: Callable[..., None], feeds: dict, way: str
    ) -> None:
        clock = FakeClock()
        session = TensorFlowSession(ConfigProto(), clock)
        session.load(["serve"], str(exported(exporter)))
        timed = TimedSession(session._native, clock)
        session._native = timed
        for _ in range(17):
            session.run(feeds, ["y:0"], clock.monotonic() + 60)
        assert timed.ways == ["pool"] * 16 + [way]
        timed.native.close()

    def test_forgets_the_oldest_of_too_many_steps(self, exported: Exported) -> None:
        session = TensorFlowSession(ConfigProto(), FakeClock(), max_steps=2)
        session.load(["serve"], str(exported(models.half_plus_two)))
        for fetches in (["y:0"], ["y2:0"], ["y:0", "y2:0"], ["y:0"]):
            session.run({"x:0": floats([1])}, fetches, None)
        assert len(session._steps) == 2
        session.close()

    def test_close_frees_session_and_graph(self, exported: Exported) -> None:
        servable = load(exported(models.half_plus_two))
        for _ in range(20):
            call(servable, x=floats([1]))
        native = weakref.ref(servable._session._native)
        graph = weakref.ref(servable._session._native.graph)
        servable.close()
        del servable
        gc.collect()
        assert native() is None
        assert graph() is None

    def test_results_outlive_the_session(self, exported: Exported) -> None:
        servable = load(exported(models.constant))
        early = call(servable)["c"]
        for _ in range(20):
            late = call(servable)["c"]
        servable.close()
        del servable
        gc.collect()
        assert early.tolist() == late.tolist() == [1.0, 2.0]

    def test_a_closed_session_answers_with_an_error(self, exported: Exported) -> None:
        servable = load(exported(models.half_plus_two))
        servable.close()
        with pytest.raises(ServingError):
            call(servable, x=floats([1]))


class TestSessionConfig:
    def test_defaults(self) -> None:
        config = session_config(TensorFlowOptions())
        assert config.allow_soft_placement
        assert config.intra_op_parallelism_threads == 0
        assert config.graph_options.optimizer_options.global_jit_level == OptimizerOptions.OFF

    def test_session_parallelism_sets_both_pools(self) -> None:
        config = session_config(TensorFlowOptions(session_parallelism=3))
        assert config.intra_op_parallelism_threads == 3
        assert config.inter_op_parallelism_threads == 3

    def test_the_pair_wins_over_session_parallelism(self) -> None:
        config = session_config(TensorFlowOptions(session_parallelism=3, intra_op_parallelism=5))
        assert config.intra_op_parallelism_threads == 5
        assert config.inter_op_parallelism_threads == 0

    def test_all_three_are_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="tensorflow_session_parallelism"):
            TensorFlowOptions(session_parallelism=1, intra_op_parallelism=1, inter_op_parallelism=1)

    def test_memory_fraction_is_always_written_over_the_base(self) -> None:
        base = ConfigProto(intra_op_parallelism_threads=7, log_device_placement=True)
        base.gpu_options.per_process_gpu_memory_fraction = 0.5
        config = session_config(TensorFlowOptions(session_config=base.SerializeToString()))
        assert config.gpu_options.per_process_gpu_memory_fraction == 0
        assert config.intra_op_parallelism_threads == 7
        assert config.log_device_placement

    def test_base_must_parse(self) -> None:
        with pytest.raises(InvalidArgument, match="session_config"):
            TensorFlowPlatform(TensorFlowOptions(session_config=b"\xff"))

    def test_a_negative_memory_fraction_is_refused(self) -> None:
        with pytest.raises(InvalidArgument, match="per_process_gpu_memory_fraction"):
            TensorFlowOptions(per_process_gpu_memory_fraction=-0.1)

    def test_mixed_precision(self, caplog: pytest.LogCaptureFixture) -> None:
        rewrites = session_config(TensorFlowOptions(mixed_precision="bfloat16")).graph_options
        assert rewrites.rewrite_options.auto_mixed_precision_onednn_bfloat16 == RewriterConfig.ON
        assert not caplog.records
        session_config(TensorFlowOptions(mixed_precision="fp4"))
        assert "'fp4'" in caplog.text

    @pytest.mark.parametrize(
        "switch", ["xla_cpu_compilation_enabled", "xla_gpu_compilation_enabled"]
    )
    def test_xla_is_left_alone_when_either_switch_is_on(self, switch: str) -> None:
        config = session_config(TensorFlowOptions(**{switch: True}))
        assert config.graph_options.optimizer_options.global_jit_level == OptimizerOptions.DEFAULT
