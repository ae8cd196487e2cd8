"""A TensorFlow session below its Python face: tensor names in, arrays out, the runtime's errors."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework.graph_pb2 import GraphDef
from tensorflow.core.framework.op_def_pb2 import OpList
from tensorflow.core.protobuf.config_pb2 import (
    CallableOptions,
    ConfigProto,
    OptimizerOptions,
    RunOptions,
)
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow.python.client import pywrap_tf_session

from serving.core.clock import Clock
from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError, error_for
from serving.core.graph_session import NodesRun
from serving.loaders.device import CPU, Device
from serving.loaders.tensorflow_freezing import FrozenGraph, frozen_graph
from serving.loaders.tensorflow_graph import may_run_long
from serving.loaders.tensorflow_nodes import run_nodes
from serving.loaders.tensorflow_step import Step, tensor_of

log = logging.getLogger(__name__)

_MOST_FROZEN_FUNCTIONS = 8  # of a version, each with a copy of the constants
_CALLERS_THREAD = -1  # as RunOptions.inter_op_thread_pool: no pool


class TensorFlowSession:
    """One graph and the session that runs it.

    Every pair of feeds and fetches is prepared once, into a :class:`Step`; the ``max_steps`` most
    recently prepared are kept. :meth:`run` may be called from any thread; what it raises are
    ServingErrors in the runtime's own words.
    """

    def __init__(
        self,
        config: ConfigProto,
        clock: Clock,
        device: Device | None = None,
        *,
        max_steps: int = 256,
    ) -> None:
        """``device``: where everything is to run; None leaves it to the graph and TensorFlow."""
        self._device = device
        self._config = _without_gpus(config) if device and device.kind == CPU.kind else config
        self._native = _NativeSession(graph=tf.Graph(), config=self._config)
        self._clock = clock
        self._max_steps = max_steps
        self.may_run_long = True
        self._lock = threading.Lock()
        self._steps: dict[tuple[tuple[str, ...], tuple[str, ...]], Step] = {}

    @property
    def devices(self) -> Sequence[Device]:
        """What the session can run operations on."""
        return [
            Device(device.device_type.lower(), int(device.name.rpartition(":")[2]))
            for device in self._native.list_devices()
        ]

    def load(self, tags: Sequence[str], path: str, *, clear_devices: bool = False) -> Any:
        """Restore the graph with this tag set; returns its MetaGraphDef. Raises what TensorFlow
        raises. With ``clear_devices``, TensorFlow places operations as if they named no devices.

        The v1 loader, because it takes exports that the v2 loader cannot trace again, and because
        shapes are then checked by the operations only, as the C++ server does it.
        """
        load = partial(tf.compat.v1.saved_model.load, self._native, list(tags), path)
        if self._device is None:
            meta_graph = load(clear_devices=clear_devices)
        else:
            with self._native.graph.device(f"/device:{str(self._device).upper()}"):
                meta_graph = load(clear_devices=True)
        self.may_run_long = may_run_long(meta_graph.graph_def)
        return meta_graph

    def add_graph(self, graph: GraphDef, producer_ops: OpList | None = None) -> None:
        """Put a graph into the session, under its own names; variables have no values yet.

        ``producer_ops`` are the operations as they were in the TensorFlow that wrote it, which may
        have had fewer attributes. Raises what TensorFlow raises.
        """
        self.may_run_long = may_run_long(graph)
        if self._device is not None:
            graph = _without_devices(graph)
        with (
            self._native.graph.as_default(),
            self._native.graph.device(self._device and f"/device:{str(self._device).upper()}"),
        ):
            tf.graph_util.import_graph_def(graph, name="", producer_op_list=producer_ops)

    def tensor_info(self, name: str) -> TensorInfo:
        """What the graph tells of a tensor; raises InvalidArgument for one that it has not."""
        tensor = tensor_of(self._native.graph, name)
        return TensorInfo(
            name=tensor.name,
            dtype=tensor.dtype.as_datatype_enum,
            tensor_shape=tensor.shape.as_proto(),
        )

    def output_names(self, operation: str) -> list[str]:
        """The names of what an operation computes that clients could be sent."""
        outputs = self._native.graph.get_operation_by_name(operation).outputs
        return [tensor.name for tensor in outputs if tensor.dtype not in (tf.resource, tf.variant)]

    def with_constants(self, graph: GraphDef, nodes: Sequence[str]) -> GraphDef:
        """The part of the graph that these nodes need, with constants for variables."""
        frozen: GraphDef = tf.compat.v1.graph_util.convert_variables_to_constants(
            self._native, graph, list(nodes)
        )
        return frozen

    def freeze(self, graph: GraphDef, feeds: Iterable[str], fetches: Iterable[str]) -> None:
        """Have quick runs use a graph without state, with constants for variables, if there is one.

        ``graph`` is what was loaded; ``feeds`` and ``fetches`` name all tensors that will be asked
        for. Where it is not possible, everything goes on as it was.
        """
        try:
            self._check_plain()
            frozen = frozen_graph(graph, feeds, fetches, self._native.values_of)
            self._native.frozen = FrozenSession(frozen, self._config)
        except Exception as error:  # noqa: BLE001 - the model can be served without, whatever it is
            log.debug("variables stay variables: %s", error)

    def _check_plain(self) -> None:
        if self.may_run_long:
            raise FailedPrecondition("runs may be long")
        if self._config.graph_options.optimizer_options.global_jit_level != OptimizerOptions.OFF:
            raise FailedPrecondition("XLA may compile the graph")
        if any(device.kind != CPU.kind for device in self.devices):
            raise FailedPrecondition("there are other devices than the processor")
        if self._device not in (None, CPU):
            raise FailedPrecondition(f"everything is to run on {self._device}")

    def run(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], deadline: float | None
    ) -> list[np.ndarray]:
        """Compute the fetches, one read-only array each; ``deadline`` in monotonic seconds."""
        key = (tuple(feeds), tuple(fetches))
        step = self._steps.get(key)
        try:
            if step is None:
                step = self._prepare(key)
            return step.run(feeds, deadline)
        except tf.errors.OpError as error:
            raise translated(error) from None
        except UnicodeDecodeError as error:
            raise _undecodable(error) from None

    def run_nodes(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        targets: Sequence[str],
        options: bytes,
    ) -> NodesRun:
        """As :class:`serving.core.graph_session.GraphSession` has it."""
        try:
            return run_nodes(self._native, feeds, fetches, targets, options)
        except tf.errors.OpError as error:
            raise translated(error) from None
        except UnicodeDecodeError as error:
            raise _undecodable(error) from None

    def close(self) -> None:
        """Free the session's memory; runs fail from then on."""
        with self._lock:
            self._steps.clear()
        if self._native.frozen is not None:
            self._native.frozen.close()
        self._native.close()

    def _prepare(self, key: tuple[tuple[str, ...], tuple[str, ...]]) -> Step:
        step = Step(self._native, *key, self._clock, may_run_long=self.may_run_long)
        with self._lock:
            if len(self._steps) >= self._max_steps:
                del self._steps[next(iter(self._steps))]
            return self._steps.setdefault(key, step)


def translated(error: tf.errors.OpError) -> ServingError:
    """TensorFlow's error as ours: the codes are the same."""
    return error_for(error.error_code, error.message)


def _undecodable(error: UnicodeDecodeError) -> ServingError:
    """The runtime's error whose text TensorFlow's Python failed to decode, and lost the code of.

    Operations put bytes into their texts that they were given and could not use, so it counts as
    INVALID_ARGUMENT; each byte that is not UTF-8 becomes U+FFFD.
    """
    return InvalidArgument(error.object.decode("utf-8", "replace"))


def _without_gpus(config: ConfigProto) -> ConfigProto:
    """The same for a session that takes no memory of a GPU and sees none."""
    changed = ConfigProto()
    changed.CopyFrom(config)
    changed.device_count["GPU"] = 0
    return changed


def _without_devices(graph: GraphDef) -> GraphDef:
    changed = GraphDef()
    changed.CopyFrom(graph)
    for node in changed.node:
        node.device = ""
    return changed


class FrozenSession:
    """Runs a graph without state, in its callers' threads, by TensorFlow's plainest executor.

    That executor runs one operation after the other and takes constants as done. It has no inter-op
    parallelism and ends no run early, as suits quick runs only. Thread-safe.
    """

    def __init__(self, frozen: FrozenGraph, config: ConfigProto) -> None:
        plain = ConfigProto()
        plain.CopyFrom(config)
        plain.experimental.executor_type = "SINGLE_THREADED_EXECUTOR"
        self._tensors = frozen.tensors
        self._native = _NativeSession(graph=tf.Graph(), config=plain)
        with self._native.graph.as_default():
            tf.graph_util.import_graph_def(frozen.graph, name="")
        self._functions: weakref.WeakSet[Callable[..., Any]] = weakref.WeakSet()

    def callable_here(
        self, feeds: Sequence[str], fetches: Sequence[str]
    ) -> Callable[..., Any] | None:
        """A function of arrays that computes in its caller's thread; None where there is none.

        So it is for tensors that are not in the graph, and when there are many of these functions
        already: each holds a copy of the constants.
        """
        if len(self._functions) >= _MOST_FROZEN_FUNCTIONS:
            return None
        try:
            function = self._native.callable_here(
                [self._tensors[name] for name in feeds], [self._tensors[name] for name in fetches]
            )
        except (KeyError, tf.errors.OpError) as error:
            log.debug("%s from %s: not from the frozen graph: %s", fetches, feeds, error)
            return None
        self._functions.add(function)
        return function

    def close(self) -> None:
        self._native.close()


class _NativeSession(tf.compat.v1.Session):  # type: ignore[misc]  # tensorflow has no types
    """Everything used here that TensorFlow keeps private, in one place.

    Session.run checks shapes that nobody else checks, costs 50 µs, and appends the place in the
    exporter's program to errors. These ways past it are as old as TensorFlow 1.8.
    """

    frozen: FrozenSession | None = None

    def _do_call(self, fn: Callable[..., Any], *args: Any) -> Any:
        # Session.run, which the loader uses, would rewrite the runtime's error texts here.
        return fn(*args)

    def endpoint(self, tensor: tf.Tensor) -> Any:
        """What :meth:`run_on_pool` calls a tensor by."""
        return tensor._as_tf_output()  # noqa: SLF001 - no public name for it

    def run_on_pool(
        self, feeds: dict[Any, np.ndarray], fetches: list[Any], timeout_ms: int | None
    ) -> list[Any]:
        """Run by endpoints, on the inter-op threads; raises OpError, by its time-out too."""
        if timeout_ms is None:
            return self._run_native(None, feeds, fetches)
        options = RunOptions(timeout_in_ms=timeout_ms).SerializeToString()
        buffer = pywrap_tf_session.TF_NewBufferFromString(options)
        try:
            return self._run_native(buffer, feeds, fetches)
        finally:
            pywrap_tf_session.TF_DeleteBuffer(buffer)

    def run_told(
        self,
        feeds: dict[Any, np.ndarray],
        fetches: list[Any],
        targets: list[tf.Operation],
        options: bytes,
    ) -> tuple[list[Any], bytes]:
        """Run on the inter-op threads as the serialized RunOptions say; with its RunMetadata."""
        told = pywrap_tf_session.TF_NewBufferFromString(options)
        tells = pywrap_tf_session.TF_NewBuffer()
        try:
            nodes = [operation._c_op for operation in targets]  # noqa: SLF001 - no public name
            values: list[Any] = pywrap_tf_session.TF_SessionRun_wrapper(
                self._session, told, feeds, fetches, nodes, tells
            )
            return values, bytes(pywrap_tf_session.TF_GetBuffer(tells))
        finally:
            pywrap_tf_session.TF_DeleteBuffer(told)
            pywrap_tf_session.TF_DeleteBuffer(tells)

    def callable_here(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable[..., Any]:
        """A function of arrays that computes in its caller's thread; it has no time-out."""
        frozen = self.frozen and self.frozen.callable_here(feeds, fetches)
        if frozen:
            return self._or_again(frozen, feeds, fetches)
        options = CallableOptions(feed=feeds, fetch=fetches)
        options.run_options.inter_op_thread_pool = _CALLERS_THREAD
        function: Callable[..., Any] = self._make_callable_from_options(options)
        return function

    def _or_again(
        self, frozen: Callable[..., Any], feeds: Sequence[str], fetches: Sequence[str]
    ) -> Callable[..., Any]:
        """``frozen``, and where it fails this session's run: its errors say in which operation.

        That is no second effect of one call, as the frozen graph has none.
        """
        feed_endpoints, fetch_endpoints = (
            [self.endpoint(self.graph.get_tensor_by_name(name)) for name in names]
            for names in (feeds, fetches)
        )

        def run(*arguments: np.ndarray) -> Any:
            try:
                return frozen(*arguments)
            except (tf.errors.OpError, UnicodeDecodeError):
                inputs = dict(zip(feed_endpoints, arguments, strict=True))
                return self.run_on_pool(inputs, fetch_endpoints, None)

        return run

    def values_of(self, variables: Sequence[str]) -> list[np.ndarray]:
        """What variables hold, by the names of their nodes; raises OpError for one without."""
        values: list[np.ndarray] = self.run([self._value_of(name) for name in variables])
        return values

    def _value_of(self, variable: str) -> tf.Tensor:
        tensor = self.graph.get_tensor_by_name(f"{variable}:0")
        if tensor.dtype != tf.resource:
            return tensor
        for reader in tensor.consumers():  # exports have one to save it by; new ones cost more
            if reader.type == "ReadVariableOp" and not reader.control_inputs:
                return reader.outputs[0]
        with self.graph.as_default():
            return tf.raw_ops.ReadVariableOp(resource=tensor, dtype=tensor.op.get_attr("dtype"))

    def _run_native(
        self, options: Any, feeds: dict[Any, np.ndarray], fetches: list[Any]
    ) -> list[Any]:
        values: list[Any] = pywrap_tf_session.TF_SessionRun_wrapper(
            self._session, options, feeds, fetches, [], None
        )
        return values
