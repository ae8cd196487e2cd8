"""What is taken of the machine's NVIDIA GPUs, by whichever process."""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from types import ModuleType
from typing import Any

from serving.metrics.families import Cell, Cells, Description, Kind, Together
from serving.metrics.registry import Metrics

log = logging.getLogger(__name__)

_LABELS = ("gpu", "uuid", "name")


def _gauge(name: str, description: str) -> Description:
    # Every process sees the same devices.
    return Description(name, description, Kind.GAUGE, _LABELS, together=Together.MAX)


_USED = _gauge("model_server_gpu_memory_used_bytes", "Memory of a GPU that is taken.")
_TOTAL = _gauge("model_server_gpu_memory_total_bytes", "Memory of a GPU.")
_BUSY = _gauge(
    "model_server_gpu_utilization_ratio", "Share of the last moments in which a GPU computed."
)
DESCRIPTIONS = (_USED, _TOTAL, _BUSY)


def add_gpu_metrics(metrics: Metrics) -> None:
    """Nothing where there is no GPU, or where nvidia-ml-py is not installed."""
    try:
        import pynvml  # noqa: PLC0415  # an optional package, of no use without a GPU
    except ImportError:
        return
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        log.debug("no metrics of GPUs: %s", error)
        return
    metrics.sampled(DESCRIPTIONS, GpuMetrics(pynvml).sample)


class GpuMetrics:
    """What NVML tells of each device; of those that fail, the first failure is logged."""

    def __init__(self, nvml: ModuleType) -> None:
        """``nvml`` is the module ``pynvml``, initialised."""
        self._nvml = nvml
        self._has_failed = False

    def sample(self) -> dict[str, Cells]:
        """All but what fails, by metric."""
        cells: dict[str, dict[tuple[str, ...], Cell]] = {each.name: {} for each in DESCRIPTIONS}
        try:
            count = self._nvml.nvmlDeviceGetCount()
        except self._nvml.NVMLError as error:
            self._note("GPUs can not be counted", error)
            count = 0
        for index in range(count):
            try:
                _sample(self._nvml, index, cells)
            except self._nvml.NVMLError as error:
                self._note(f"GPU {index} does not tell its metrics", error)
        return dict(cells)

    def _note(self, what: str, error: Exception) -> None:
        log.log(logging.DEBUG if self._has_failed else logging.WARNING, "%s: %s", what, error)
        self._has_failed = True


def _sample(
    nvml: ModuleType, index: int, cells: Mapping[str, MutableMapping[tuple[str, ...], Cell]]
) -> None:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    labels = (str(index), *_texts(nvml, device))
    memory = nvml.nvmlDeviceGetMemoryInfo(device)
    cells[_USED.name][labels], cells[_TOTAL.name][labels] = memory.used, memory.total
    try:
        cells[_BUSY.name][labels] = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
    except nvml.NVMLError:
        log.debug("GPU %d does not tell its utilization", index)  # MIG


def _texts(nvml: ModuleType, device: Any) -> tuple[str, str]:
    """Its UUID and name."""
    return nvml.nvmlDeviceGetUUID(device), nvml.nvmlDeviceGetName(device)
