"""What this process takes of the machine, and what it is."""

from __future__ import annotations

import importlib.metadata
import platform
import time

from serving.metrics.families import Cells, Description, Kind, Together
from serving.metrics.registry import Metrics

_GAUGE, _COUNTER = Kind.GAUGE, Kind.COUNTER
_OF_PROCESS = (
    Description("process_cpu_seconds_total", "CPU time, of user and system.", _COUNTER),
    Description("process_resident_memory_bytes", "Memory in RAM.", _GAUGE),
    Description("process_virtual_memory_bytes", "Address space.", _GAUGE),
    Description("process_open_fds", "Open files and sockets.", _GAUGE),
    Description(
        "process_max_fds", "How many of those there may be.", _GAUGE, together=Together.MIN
    ),
    Description(
        "process_start_time_seconds",
        "When the process started, in seconds since 1970.",
        _GAUGE,
        together=Together.MIN,
    ),
)
_UPTIME = Description(
    "model_server_uptime_seconds",
    "How long the server has been running.",
    _GAUGE,
    together=Together.MAX,
)
_PROCESSES = Description("model_server_processes", "Processes that serve, and answer here.", _GAUGE)
_BUILD_INFO = Description(
    "model_server_build_info",
    "1, for what runs; empty where it is not installed.",
    _GAUGE,
    ("version", "python_version", "tensorflow_version"),
    together=Together.MAX,
)
DESCRIPTIONS = (*_OF_PROCESS, _UPTIME, _PROCESSES, _BUILD_INFO)


class ProcessMetrics:
    """Asks the system, on Linux only for most of it, whenever somebody wants to know."""

    def __init__(self, metrics: Metrics) -> None:
        # It brings an HTTP server, which a server without a page has no use for.
        from prometheus_client import ProcessCollector  # noqa: PLC0415

        self._collector = ProcessCollector(registry=None)
        self._started = time.monotonic()
        self._build = (
            _version_of("model-server"),
            platform.python_version(),
            _version_of("tensorflow") or _version_of("tensorflow-cpu"),
        )
        metrics.sampled(DESCRIPTIONS, self._sample)

    def _sample(self) -> dict[str, Cells]:
        found = {
            sample.name: sample.value
            for family in self._collector.collect()
            for sample in family.samples
        }
        cells: dict[str, Cells] = {
            each.name: {(): found[each.name]} for each in _OF_PROCESS if each.name in found
        }
        cells[_UPTIME.name] = {(): time.monotonic() - self._started}
        cells[_PROCESSES.name] = {(): 1}
        cells[_BUILD_INFO.name] = {self._build: 1}
        return cells


def _version_of(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
