"""Which graphs are run with constants for variables, and that nobody can tell from the answers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import exported_models as models
import numpy as np
import pytest
import tensorflow as tf
from exported_models import Exported
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo

from serving.core.errors import FailedPrecondition
from serving.core.servable import Servable, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tensorflow_freezing import FrozenGraph, frozen_graph
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.testing import FakeClock

v1 = tf.compat.v1

Build = Callable[[tf.Tensor], tf.Tensor]
"""Makes y of x, a vector of floats, in the default graph."""

_RUNS = 24
"""Enough for runs to have moved to the caller's thread, where the frozen graph is used."""


def graph_of(build: Build) -> GraphDef:
    with tf.Graph().as_default() as graph:
        x = v1.placeholder(tf.float32, [None], name="x")
        tf.identity(build(x), name="y")
    return graph.as_graph_def()


def freeze(graph: GraphDef, values: dict[str, object] | None = None) -> FrozenGraph:
    def read(variables: Sequence[str]) -> list[np.ndarray]:
        return [np.array((values or {})[name], np.float32) for name in variables]

    return frozen_graph(graph, ["x:0"], ["y:0"], read)


def run(frozen: FrozenGraph, x: Sequence[float]) -> list[float]:
    with tf.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        tf.graph_util.import_graph_def(frozen.graph, name="")
        y: np.ndarray = session.run(frozen.tensors["y:0"], {frozen.tensors["x:0"]: x})
    return y.tolist()


def operations(frozen: FrozenGraph) -> set[str]:
    return {node.op for node in frozen.graph.node}


def variable(name: str, **arguments: object) -> tf.Variable:
    return v1.get_variable(name, initializer=2.0, **arguments)


def in_function(build: Build, **attributes: object) -> Build:
    return tf.function(build, autograph=False, experimental_attributes=attributes or None)


class TestWhatIsFrozen:
    @pytest.mark.parametrize("use_resource", [True, False])
    def test_variables_of_both_kinds_become_constants(self, use_resource: bool) -> None:
        frozen = freeze(
            graph_of(lambda x: x * variable("a", use_resource=use_resource)), {"a": 3.0}
        )
        assert operations(frozen) == {"Placeholder", "Const", "Mul", "Identity"}
        assert run(frozen, [1, 2]) == [3.0, 6.0]

    def test_calls_are_written_out(self) -> None:
        def build(x: tf.Tensor) -> tf.Tensor:
            a = variable("a")
            inner = in_function(lambda z: tf.unstack(tf.stack([z * a, z + a, z]), 3)[1])
            outer = in_function(lambda z: inner(z) - inner(2 * z))
            return outer(x)

        frozen = freeze(graph_of(build), {"a": 5.0})
        assert operations(frozen) <= {
            *("Placeholder", "Const", "Mul", "AddV2", "Sub", "Identity", "Pack", "Unpack")
        }
        assert run(frozen, [1, 2]) == [-1.0, -2.0]

    def test_what_no_fetch_depends_on_does_not_matter(self) -> None:
        def build(x: tf.Tensor) -> tf.Tensor:
            a = variable("a")
            v1.assign_add(a, 1.0)
            tf.random.uniform([])
            return x + a

        assert run(freeze(graph_of(build), {"a": 1.0}), [1]) == [2.0]

    def test_a_feed_that_no_fetch_depends_on_is_left_out(self) -> None:
        assert list(freeze(graph_of(lambda _: tf.constant(1.0))).tensors) == ["y:0"]


def assigned(x: tf.Tensor) -> tf.Tensor:
    return x + v1.assign_add(variable("a", use_resource=True), 1.0)


def assigned_reference(x: tf.Tensor) -> tf.Tensor:
    return x + v1.assign_add(variable("a", use_resource=False), 1.0)


def assigned_before(x: tf.Tensor) -> tf.Tensor:
    a = variable("a", use_resource=True)
    with tf.control_dependencies([a.assign_add(1.0, read_value=False)]):
        return x + a.read_value()


def assigned_in_a_function(x: tf.Tensor) -> tf.Tensor:
    a = variable("a", use_resource=True)

    def counted(z: tf.Tensor) -> tf.Tensor:
        a.assign_add(1.0)
        return z * 2.0

    return in_function(counted)(x)


def random(x: tf.Tensor) -> tf.Tensor:
    return x + tf.random.uniform([])


def table(x: tf.Tensor) -> tf.Tensor:
    initializer = tf.lookup.KeyValueTensorInitializer(tf.constant([1], tf.int64), [2.0])
    return tf.lookup.StaticHashTable(initializer, 0.0).lookup(tf.cast(x, tf.int64))


def gathered(x: tf.Tensor) -> tf.Tensor:
    return tf.gather(v1.get_variable("a", [3], use_resource=True), tf.cast(x, tf.int32))


def asserted(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.debugging.assert_positive(x)]):
        return tf.identity(x)


def for_its_own_sake(x: tf.Tensor) -> tf.Tensor:
    with tf.control_dependencies([tf.ensure_shape(x, [2])]):
        return x + 1.0


def branches(x: tf.Tensor) -> tf.Tensor:
    return tf.cond(x[0] > 0, lambda: x + 1.0, lambda: x - 1.0)


def branches_of_old(x: tf.Tensor) -> tf.Tensor:
    false, true = v1.raw_ops.Switch(data=x, pred=x[0] > 0)
    return v1.raw_ops.Merge(inputs=[false, true]).output


def repeats(x: tf.Tensor) -> tf.Tensor:
    return tf.while_loop(lambda z: z[0] < 9, lambda z: [z + 1.0], [x])[0]


def large(x: tf.Tensor) -> tf.Tensor:
    return x + tf.reduce_sum(v1.get_variable("a", [2**18 + 1], use_resource=True))


def of_any_size(x: tf.Tensor) -> tf.Tensor:
    handle = tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[None], shared_name="a", container="")
    return x + tf.raw_ops.ReadVariableOp(resource=handle, dtype=tf.float32)


def endless(x: tf.Tensor) -> tf.Tensor:
    for _ in range(4200):
        x = tf.raw_ops.Neg(x=x)
    return x


class TestWhatIsNotFrozen:
    @pytest.mark.parametrize(
        ("build", "reason"),
        [
            (assigned, "Assign.* has to do with state"),
            (assigned_reference, "AssignAdd .* has to do with state"),
            (assigned_before, "AssignAdd.* has to do with state"),
            (assigned_in_a_function, "AssignAdd.* has to do with state"),
            (random, "RandomUniform .* has to do with state"),
            (table, "LookupTableFind.* has to do with state"),
            (gathered, "ResourceGather .* has to do with state"),
            (asserted, "If .*Assert.* has to do with state"),
            (in_function(asserted), "If .*Assert.* has to do with state"),
            (for_its_own_sake, "EnsureShape .* is run for its own sake"),
            (branches, "calls, branches or repeats"),
            (branches_of_old, "calls, branches or repeats"),
            (in_function(repeats), "calls, branches or repeats"),
            (in_function(lambda x: x + 1.0, _noinline=True), "to be called with _noinline"),
            (large, "the variables are large, 1048580 bytes"),
            (of_any_size, "may be of any size"),
            (endless, "too many nodes"),
        ],
    )
    def test_whatever_is_more_than_a_function_of_inputs_and_small_variables(
        self, build: Build, reason: str
    ) -> None:
        with pytest.raises(FailedPrecondition, match=reason):
            freeze(graph_of(build))

    def test_an_unknown_operation(self) -> None:
        graph = graph_of(lambda x: x + 1.0)
        next(node for node in graph.node if node.op == "AddV2").op = "Mystery"
        with pytest.raises(FailedPrecondition, match="of the unknown operation Mystery"):
            freeze(graph)

    def test_a_function_that_calls_itself(self) -> None:
        graph = graph_of(in_function(in_function(lambda x: x + 1.0)))
        for function in graph.library.function:
            for node in function.node_def:
                if "f" in node.attr:
                    node.attr["f"].func.name = function.signature.name
        with pytest.raises(FailedPrecondition, match="too many"):
            freeze(graph)


@pytest.fixture
def load(exported: Exported) -> Callable[..., Servable]:
    def loaded(exporter: Callable[..., None], **options: object) -> Servable:
        # On a clock that stands still every run is quick.
        platform = TensorFlowPlatform(TensorFlowOptions(**options), FakeClock())
        return platform.load(ServableId("m", 1), str(exported(exporter)))

    return loaded


def is_frozen(servable: Servable) -> bool:
    return servable._session._native.frozen is not None


def answers(servable: Servable, value: object, signature: str = "serving_default") -> list[list]:
    """What each of many runs of a signature with one input and output says."""
    found = servable.signatures[signature]
    (feed,), (fetch,) = found.inputs.values(), found.outputs.values()
    return [
        run_and_wait(servable, {feed.name: np.asarray(value)}, [fetch.name])[0].tolist()
        for _ in range(_RUNS)
    ]


def counter(directory: Path) -> None:
    """``x`` → ``y`` = x + how many runs there have been, by ``tf.saved_model.save``."""
    module = tf.Module()
    module.runs = tf.Variable(0.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + module.runs.assign_add(1.0)}

    tf.saved_model.save(module, str(directory), signatures=predict)


def counted(directory: Path) -> None:
    """``serving_default``: ``x`` → ``y`` = x + a; the signature ``add``: ``x`` is added to a."""
    module = tf.Module()
    module.a = tf.Variable(0.0)
    spec = [tf.TensorSpec([], tf.float32, name="x")]
    signatures = {
        "serving_default": tf.function(lambda x: {"y": x + module.a}, input_signature=spec),
        "add": tf.function(lambda x: {"y": module.a.assign_add(x)}, input_signature=spec),
    }
    tf.saved_model.save(module, str(directory), signatures=signatures)


def dice(directory: Path) -> None:
    """``x`` → ``y`` = x + a random number, by ``tf.saved_model.save``."""

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x + tf.random.uniform([])}

    tf.saved_model.save(tf.Module(), str(directory), signatures=predict)


def conditional(directory: Path) -> None:
    """``x`` → ``y`` = x · a where x is positive, otherwise x; by ``tf.saved_model.save``."""
    module = tf.Module()
    module.a = tf.Variable(3.0)

    @tf.function(input_signature=[tf.TensorSpec([], tf.float32, name="x")])
    def predict(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": tf.cond(x > 0, lambda: x * module.a, lambda: x)}

    tf.saved_model.save(module, str(directory), signatures=predict)


def without_numbers(directory: Path) -> None:
    """``x`` [n] → ``y`` = 2 · x + 1, whose signature calls its tensors x and y, without ``:0``."""
    signature = SignatureDef(
        inputs={"x": TensorInfo(name="x", dtype=tf.float32.as_datatype_enum)},
        outputs={"y": TensorInfo(name="y", dtype=tf.float32.as_datatype_enum)},
    )
    with tf.Graph().as_default(), v1.Session() as session:
        tf.identity(v1.placeholder(tf.float32, [None], name="x") * variable("a") + 1.0, name="y")
        session.run(v1.global_variables_initializer())
        builder = v1.saved_model.Builder(str(directory))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()


class TestServables:
    @pytest.mark.parametrize(
        ("exporter", "value", "expected"),
        [
            (models.half_plus_two, np.array([[1.0]], np.float32), [[2.5]]),
            (models.half_plus_two_tf2, np.array([1.0], np.float32), [2.5]),
            (models.keras_model, np.array([[1.0, 2.0]], np.float32), [[3.0]]),
            (models.main_op, np.array([1.0], np.float32), [8.0]),
            (models.version_number, np.array([0.0], np.float32), [1]),
        ],
    )
    def test_a_frozen_graph_gives_the_same_answers(
        self,
        load: Callable[..., Servable],
        exporter: Callable[..., None],
        value: object,
        expected: object,
    ) -> None:
        """The first runs are of the graph as it was loaded, the last of the frozen one."""
        servable = load(exporter)
        assert is_frozen(servable)
        assert answers(servable, value) == [expected] * _RUNS
        assert len(servable._session._native.frozen._functions) == 1

    def test_a_counter_counts_every_run(self, load: Callable[..., Servable]) -> None:
        servable = load(counter)
        assert not is_frozen(servable)
        assert answers(servable, np.float32(0)) == [float(n) for n in range(1, _RUNS + 1)]

    def test_one_signature_reads_what_another_writes(self, load: Callable[..., Servable]) -> None:
        servable = load(counted)
        assert answers(servable, np.float32(1))[-1] == 1.0
        answers(servable, np.float32(2), "add")
        assert answers(servable, np.float32(1))[-1] == 1.0 + 2 * _RUNS

    def test_random_numbers_stay_random(self, load: Callable[..., Servable]) -> None:
        assert len(set(answers(load(dice), np.float32(0)))) == _RUNS

    def test_tables_and_their_assets_work(self, load: Callable[..., Servable]) -> None:
        servable = load(models.vocabulary)
        assert not is_frozen(servable)
        assert answers(servable, np.array([b"c", b"?"], object)) == [[2, -1]] * _RUNS

    def test_both_branches_work(self, load: Callable[..., Servable]) -> None:
        servable = load(conditional)
        assert not is_frozen(servable)
        assert answers(servable, np.float32(2)) == [6.0] * _RUNS
        assert answers(servable, np.float32(-2)) == [-2.0] * _RUNS

    def test_loops_work(self, load: Callable[..., Servable]) -> None:
        servable = load(models.turns)
        assert not is_frozen(servable)
        assert answers(servable, np.int32(7)) == [[7]] * _RUNS

    def test_tensors_of_no_signature_come_from_the_graph_as_it_was(
        self, load: Callable[..., Servable]
    ) -> None:
        servable = load(models.half_plus_two)
        for _ in range(_RUNS):
            (a,) = run_and_wait(servable, {}, ["a/Read/ReadVariableOp:0"])
            assert a == 0.5
        assert not servable._session._native.frozen._functions

    def test_a_signature_may_leave_out_the_number_of_the_first_output(
        self, load: Callable[..., Servable]
    ) -> None:
        servable = load(without_numbers)
        for _ in range(_RUNS):
            (y,) = run_and_wait(servable, {"x": np.array([1.0], np.float32)}, ["y"])
            assert y == 3.0

    def test_as_many_functions_as_are_allowed_are_frozen(
        self, load: Callable[..., Servable], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("serving.loaders.tensorflow_session._MOST_FROZEN_FUNCTIONS", 1)
        servable = load(models.half_plus_two)
        x = {"x:0": np.array([[1.0]], np.float32)}
        for fetch, expected in (("y:0", 2.5), ("y2:0", 3.5)) * _RUNS:
            assert run_and_wait(servable, x, [fetch])[0] == expected
        assert len(servable._session._native.frozen._functions) == 1

    def test_whatever_goes_wrong_the_model_is_served(
        self,
        load: Callable[..., Servable],
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        def broken(*_arguments: object) -> FrozenGraph:
            raise RuntimeError("something else")

        monkeypatch.setattr("serving.loaders.tensorflow_session.frozen_graph", broken)
        with caplog.at_level(logging.DEBUG, "serving"):
            servable = load(models.half_plus_two)
        assert "variables stay variables: something else" in caplog.text
        assert answers(servable, np.array([[1.0]], np.float32)) == [[[2.5]]] * _RUNS

    def test_xla_has_the_graph_as_it_was(self, load: Callable[..., Servable]) -> None:
        assert not is_frozen(load(models.half_plus_two, xla_cpu_compilation_enabled=True))
