"""Runs the requests that come with a version, so that its first clients do not find it cold."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from serving.apis.tensorflow_serving.prediction_log import parse_prediction_log, run_prediction_log
from serving.core.cancellation import Cancellation
from serving.core.clock import Clock
from serving.core.errors import (
    Cancelled,
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    ServingError,
)
from serving.core.servable import RunOptions, Servable, instances_of
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId

log = logging.getLogger(__name__)

WARM_UP_FILE = Path("assets.extra", "tf_serving_warmup_requests")
"""Where a version directory has its requests, PredictionLogs in a TFRecord file."""

MOST_RECORDS = 1000


@dataclass(frozen=True, slots=True)
class WarmUpEnd:
    """How the warm-up of a version that has a file ended, after how many records.

    ``model_path`` is the directory it was loaded from; ``error`` is None when all went well.
    """

    servable_id: ServableId
    model_path: str
    error: ServingError | None
    records: int
    seconds: float


class WarmUp:
    """Warms versions up, as their loads' last step. Thread-safe.

    As in TensorFlow Serving: a version without a file is fine, one with a request that fails is
    not. What a request says of model and version does not matter.
    """

    def __init__(
        self,
        clock: Clock,
        ended: Callable[[WarmUpEnd], None],
        *,
        num_request_iterations: int = 1,
        check_method_name: bool = False,
    ) -> None:
        """Each request is run ``num_request_iterations`` times in each instance of the servable,
        which has them take turns. ``ended`` hears of each warm-up.
        """
        self._clock = clock
        self._ended = ended
        self._num_request_iterations = num_request_iterations
        self._check_method_name = check_method_name

    def __call__(
        self, servable_id: ServableId, path: str, servable: Servable, cancellation: Cancellation
    ) -> None:
        """Run the requests of the version at ``path`` one after another; blocks until all have run.

        Raises FailedPrecondition for a file that can not be read, DataLoss for a broken one,
        InvalidArgument for what is no PredictionLog and for more than 1000 of them, Unimplemented
        for kinds that can not be run, the error of the first request that fails, and Cancelled once
        the load is not wanted any more.
        """
        file = Path(path) / WARM_UP_FILE
        if not _may_be_there(file):
            log.info("No warmup data file found at %s", file)
            return
        log.info("Starting to read warmup data for model at %s", file)
        started = self._clock.monotonic()
        records, error = self._run_file(file, _Runs(servable_id, servable, cancellation))
        seconds = self._clock.monotonic() - started
        self._ended(WarmUpEnd(servable_id, path, error, records, seconds))
        if error is not None:
            raise error
        log.info(
            "Finished reading warmup data for model at %s. Number of warmup records read: %d. "
            "Elapsed time (microseconds): %d.",
            file,
            records,
            seconds * 1e6,
        )

    def _run_file(self, path: Path, runs: _Runs) -> tuple[int, ServingError | None]:
        """How many records were run, and what ended it early."""
        # Versions without such a file, most of them, need no reader.
        from serving.record_file import RecordReader  # noqa: PLC0415  # see above

        records = 0
        try:
            with path.open("rb") as file:
                for record in RecordReader(file):
                    self._run_record(record, path, runs)
                    records += 1
                    if records > MOST_RECORDS:
                        raise InvalidArgument(
                            f"Number of warmup records exceeds the maximum ({MOST_RECORDS}) at "
                            f"{path}"
                        )
        except DataLoss as error:
            return records, DataLoss(
                f"{error.message}. Please verify your warmup data is in TFRecord format."
            )
        except ServingError as error:
            return records, error
        except OSError as error:
            return records, FailedPrecondition(
                f"Failed to read warmup data of {runs.servable_id} at {path}: {error.strerror}"
            )
        return records, None

    def _run_record(self, record: bytes, path: Path, runs: _Runs) -> None:
        prediction = parse_prediction_log(record)
        if prediction is None:
            raise InvalidArgument(f"Failed to parse warmup record: {record[:64]!r} from {path}")
        for _ in range(self._num_request_iterations * runs.num_instances):
            runs.run(partial(run_prediction_log, prediction, self._check_method_name))


def _may_be_there(path: Path) -> bool:
    """Also where that can not be told: to read it says why."""
    try:
        return path.exists()
    except OSError:
        return True


_Start = Callable[[ServableHandle, RunOptions, Callable[[ServingError | None], None]], None]


class _Runs:
    """The runs of one warm-up, each of which is waited for."""

    def __init__(
        self, servable_id: ServableId, servable: Servable, cancellation: Cancellation
    ) -> None:
        self.servable_id = servable_id
        self._handle = ServableHandle(servable_id, servable, lambda _handle: None)
        self._cancellation = cancellation
        self.num_instances = len(instances_of(servable))

    def run(self, start: _Start) -> None:
        """Raises the run's error, and Cancelled where nobody waits for the load any more.

        A run in progress is waited for all the same, as the servable must not be closed before.
        """
        ended = threading.Event()
        errors: list[ServingError | None] = []

        def done(error: ServingError | None) -> None:
            errors.append(error)
            ended.set()

        if not self._cancellation.cancelled:
            start(self._handle, RunOptions(cancellation=self._cancellation), done)
            ended.wait()
        if self._cancellation.cancelled:
            raise Cancelled("Loading of servable cancelled")
        if errors[0] is not None:
            raise errors[0]
