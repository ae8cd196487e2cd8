"""The ``tensorflow`` platform: SavedModels of TensorFlow 1 and 2, SessionBundles, frozen graphs."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf

from serving.core.clock import Clock, SystemClock
from serving.core.errors import Internal, InvalidArgument, ServingError
from serving.core.graph_session import GraphSession
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, RunCallback, RunOptions, Signature, TensorInfo
from serving.core.servable_id import ServableId
from serving.loaders.aligned_buffer import aligned_empty
from serving.loaders.device import Device, no_such_device
from serving.loaders.tensorflow_custom_ops import load_custom_ops
from serving.loaders.tensorflow_exports import read_export
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tensorflow_overrides import overridden
from serving.loaders.tensorflow_session import TensorFlowSession, translated
from serving.loaders.tensorflow_session_config import session_config
from serving.loaders.tensorflow_signatures import signatures_of

log = logging.getLogger(__name__)
# At every load it would warn that the v1 loader, chosen on purpose, is deprecated.
tf.get_logger().setLevel(logging.ERROR)

_RAM_PER_BYTE_ON_DISK = 1.2


class TensorFlowPlatform:
    """Loads models from anywhere TensorFlow's file systems reach. Thread-safe.

    Raises InvalidArgument when the options hold no readable session configuration, or a library of
    operations that can not be loaded.
    """

    def __init__(self, options: TensorFlowOptions, clock: Clock | None = None) -> None:
        self._tags = options.tags
        self._config = session_config(options)
        load_custom_ops(options.custom_op_libraries)
        self._clock = clock or SystemClock()

    @property
    def devices(self) -> Sequence[Device]:
        """Those that TensorFlow can run operations on."""
        session = TensorFlowSession(self._config, self._clock)
        try:
            return session.devices
        finally:
            session.close()

    def estimate(self, path: str) -> ResourceAllocation:
        """Main memory the model is expected to need: 1.2 times its files on disk."""
        with _translating_errors():
            size_bytes = sum(tf.io.gfile.stat(file).length for file in _files_below(path))
        return ResourceAllocation.ram(int(_RAM_PER_BYTE_ON_DISK * size_bytes))

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> TensorFlowServable:
        """The model in directory ``path``, restored and initialised.

        With a ``device`` it runs there, whatever devices the graph itself names; operations that
        are not made for it run on the processor.

        Raises NotFound without a model or a graph with the tags of the options, DataLoss for files
        that do not parse, InvalidArgument for a graph that does not hold together,
        FailedPrecondition for a device that TensorFlow does not have, and otherwise what the
        export's class raises, or the runtime says with its code.
        """
        with _translating_errors():
            export = read_export(path, self._tags)
            session = TensorFlowSession(overridden(self._config, path), self._clock, device)
            try:
                if device and device not in session.devices:
                    raise no_such_device(servable_id, device, session.devices)
                restored = export.restore(session)
                signatures = signatures_of(restored.signatures)
                session.freeze(
                    restored.graph,
                    _tensor_names(signature.inputs for signature in signatures.values()),
                    _tensor_names(signature.outputs for signature in signatures.values()),
                )
            except BaseException:
                session.close()
                raise
        return TensorFlowServable(servable_id, session, signatures)


class TensorFlowServable:
    """A graph in memory; implements Servable. ``done`` is called on the caller's thread.

    Shapes are not compared with the signature: a wrong one is the failing operation's error.
    """

    def __init__(
        self,
        servable_id: ServableId,
        session: TensorFlowSession,
        signatures: Mapping[str, Signature],
    ) -> None:
        self._id = servable_id
        self._session = session
        self._signatures = signatures

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._signatures

    @property
    def may_run_long(self) -> bool:
        """Whether the graph has operations that may take any time, however quick they were."""
        return self._session.may_run_long

    @property
    def graph_session(self) -> GraphSession:
        return self._session

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits.

        Arrays come back read-only and may share memory with the feeds, which must therefore not
        be written to afterwards.
        """
        done(self._result(feeds, fetches, options))

    def input_buffer(self, shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """Memory that TensorFlow takes as it is; what begins elsewhere it copies before a run."""
        return aligned_empty(shape, dtype)

    def close(self) -> None:
        self._session.close()

    def _result(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str], options: RunOptions
    ) -> Outputs | ServingError:
        try:
            return self._session.run(feeds, fetches, options.deadline)
        except ServingError as error:
            return error
        except Exception:  # a defect, which must not leave the caller without an answer
            log.exception("a run of %s failed", self._id)
            return Internal("the run failed unexpectedly")

    def __repr__(self) -> str:
        return f"<TensorFlowServable {self._id}>"


@contextlib.contextmanager
def _translating_errors() -> Iterator[None]:
    try:
        yield
    except tf.errors.OpError as error:
        raise translated(error) from error
    except (ValueError, TypeError, LookupError, RuntimeError, OSError) as error:
        # TensorFlow's Python raises these for graphs that do not hold together.
        raise InvalidArgument(f"the model cannot be loaded: {error}") from error


def _tensor_names(sides: Iterable[Mapping[str, TensorInfo]]) -> set[str]:
    return {info.name for tensors in sides for info in tensors.values()}


def _files_below(path: str) -> Iterator[str]:
    """Each directory is looked into once, as links may go in circles."""
    seen: set[str] = set()
    for folder, folders, files in tf.io.gfile.walk(path):
        place = os.path.realpath(folder)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        yield from (tf.io.gfile.join(folder, file) for file in files)
