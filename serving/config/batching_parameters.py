"""Batching as the command line and its files ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.config.flags import CPUS
from serving.config.text_proto import read_text_proto
from serving.core.errors import InvalidArgument
from serving.generated.session_bundle_config_pb2 import BatchingParameters

_TFLITE_ROWS = 500
_FILE_OF_A_VERSION = "batching_params.pbtxt"
_SCHEDULER_FIELDS = ("num_batch_threads", "thread_pool_name", "hung_batch_seconds")
_QUEUE_FIELDS = (
    "max_batch_size",
    "batch_timeout_micros",
    "max_enqueued_batches",
    "enable_large_batch_splitting",
    "max_execution_batch_size",
)
_SERVABLE_FIELDS = ("max_priority_wait_micros", "weight", "max_batches_in_progress")


@dataclass(frozen=True, slots=True)
class Batching:
    """The threads of the server, and what its versions' queues are like.

    ``parameters``, from the file at ``path`` if there is one, are those of every version, unless
    ``per_version`` leaves that to each version's directory. They are judged when a version loads: a
    mistake in them fails the load.
    """

    path: str
    scheduler: SchedulerOptions
    parameters: BatchingParameters
    per_version: bool

    def read_again(self) -> Batching:
        """What the file says now, if there is one. Raises what :func:`read_batching` raises."""
        if not self.path:
            return self
        return read_batching(self.path, per_version=self.per_version)

    def options_for(self, version_path: str) -> BatchingOptions | None:
        """How the version in this directory is batched; None: not at all.

        With ``per_version`` the directory's own ``batching_params.pbtxt`` says so, all but its
        threads, and a version without that file is not batched. Raises InvalidArgument for
        parameters that are wrong or unreadable.
        """
        if not self.per_version:
            return _batching_options(self.parameters)
        file = Path(version_path, _FILE_OF_A_VERSION)
        if not file.is_file():
            return None
        return _batching_options(read_text_proto(str(file), BatchingParameters))


def read_batching(path: str, *, per_version: bool) -> Batching:
    """What the BatchingParameters file says; the defaults where ``path`` is empty.

    Raises NotFound or InvalidArgument for a file that cannot be read, and for threads that
    cannot be had.
    """
    if path:
        parameters = read_text_proto(path, BatchingParameters)
    else:
        parameters = BatchingParameters()
        parameters.thread_pool_name.value = "model_server_batch_threads"
    return Batching(path, _scheduler_options(parameters), parameters, per_version)


def tflite_batching(num_pools: int, num_interpreters_per_pool: int) -> Batching:
    """How TensorFlow Serving joins requests for TensorFlow Lite models, with its numbers.

    A batch is as large as what one interpreter of a pool would get of 500 rows.
    """
    parameters = BatchingParameters(enable_large_batch_splitting={"value": True})
    parameters.thread_pool_name.value = "tflite_batch_threads"
    parameters.num_batch_threads.value = num_pools
    parameters.max_batch_size.value = _TFLITE_ROWS
    parameters.max_execution_batch_size.value = -(-_TFLITE_ROWS // num_interpreters_per_pool)
    parameters.max_enqueued_batches.value = 100 * num_pools
    return Batching("", _scheduler_options(parameters), parameters, per_version=False)


def _scheduler_options(parameters: BatchingParameters) -> SchedulerOptions:
    return SchedulerOptions(
        **{"num_batch_threads": CPUS, **_values_set(parameters, _SCHEDULER_FIELDS)}
    )


def _batching_options(parameters: BatchingParameters) -> BatchingOptions:
    admission = None
    if parameters.admission_control:
        longest = _values_set(parameters, ("max_expected_wait_micros",))
        admission = Admission(longest.get("max_expected_wait_micros"))
    elif parameters.HasField("max_expected_wait_micros"):
        raise InvalidArgument("max_expected_wait_micros is set without setting admission_control")
    return BatchingOptions(
        queue=QueueOptions(
            deadline_aware=parameters.deadline_aware, **_values_set(parameters, _QUEUE_FIELDS)
        ),
        allowed_batch_sizes=tuple(parameters.allowed_batch_sizes),
        pad_variable_length_inputs=parameters.pad_variable_length_inputs,
        retry_failed_batch_in_halves=parameters.retry_failed_batch_in_halves,
        adaptive=parameters.batching_mode == BatchingParameters.ADAPTIVE,
        admission=admission,
        honor_priorities=parameters.honor_priorities,
        **_values_set(parameters, _SERVABLE_FIELDS),
    )


def _values_set(parameters: BatchingParameters, fields: Sequence[str]) -> dict[str, Any]:
    """The wrapped values that the file sets; the options' own defaults hold for the others."""
    return {
        field: getattr(parameters, field).value for field in fields if parameters.HasField(field)
    }
