"""TensorFlow's profiler: what its runtime, its devices and Python do, recorded in this process."""

from __future__ import annotations

import tempfile
import threading
from collections import Counter
from pathlib import Path

import tensorflow as tf
from tensorflow.tsl.profiler.protobuf.xplane_pb2 import XSpace

from serving.core.clock import Clock
from serving.core.errors import AlreadyExists
from serving.core.profiler import Trace, TraceOptions
from serving.loaders.tensorflow_session import translated

_PICOSECONDS_PER_MS = 1e9


class TensorFlowProfiler:
    """Implements Profiler.

    TensorFlow's own profiler server is not used: it would listen on every address of the machine,
    without TLS, and could not be stopped.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def trace(self, options: TraceOptions, stop: threading.Event) -> Trace:
        self._clock.wait(stop, options.delay_seconds)
        with tempfile.TemporaryDirectory() as folder:
            try:
                tf.profiler.experimental.start(folder, _levels(options))
            except tf.errors.AlreadyExistsError:
                raise AlreadyExists("Another profiler session active.") from None
            try:
                self._clock.wait(stop, options.seconds)
            finally:
                _stop()
            (file,) = Path(folder).rglob("*.xplane.pb")
            encoded = file.read_bytes()
        space = XSpace.FromString(encoded)
        events = any(line.events for plane in space.planes for line in plane.lines)
        return Trace(encoded, is_empty=not events)

    def summary(self, trace: Trace, most_events: int) -> str:
        """A table for each device and the host; the time of an event has that of those in it."""
        space = XSpace.FromString(trace.encoded)
        lines = []
        for plane in space.planes:
            totals: Counter[str] = Counter()
            counts: Counter[str] = Counter()
            for line in plane.lines:
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    totals[name] += event.duration_ps
                    counts[name] += 1
            if totals:
                lines.append(f"{plane.name}\n{'ms':>12} {'times':>8}  event")
            for name, duration_ps in totals.most_common(most_events):
                milliseconds = duration_ps / _PICOSECONDS_PER_MS
                lines.append(f"{milliseconds:12.3f} {counts[name]:8}  {name}")
        return "\n".join(lines or ["nothing happened"]) + "\n"


def _levels(options: TraceOptions) -> tf.profiler.experimental.ProfilerOptions | None:
    """None for TensorFlow's own. 2.21 takes no other: it logs that, and records by its own."""
    own = tf.profiler.experimental.ProfilerOptions()
    levels = own._replace(
        host_tracer_level=options.host_level,
        device_tracer_level=options.device_level,
        python_tracer_level=options.python_level,
    )
    return None if levels == own else levels


def _stop() -> None:
    try:
        tf.profiler.experimental.stop()
    except tf.errors.OpError as error:
        raise translated(error) from None
