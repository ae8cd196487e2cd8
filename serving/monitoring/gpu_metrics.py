"""What is taken of the machine's NVIDIA GPUs, by whichever process."""

from __future__ import annotations

import logging
from functools import partial
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
    metrics.sampled(DESCRIPTIONS, partial(sample_gpus, pynvml))


def sample_gpus(nvml: ModuleType) -> dict[str, Cells]:
    """What NVML tells of each device; ``nvml`` is the module ``pynvml``, initialised."""
    used: dict[tuple[str, ...], Cell] = {}
    total: dict[tuple[str, ...], Cell] = {}
    busy: dict[tuple[str, ...], Cell] = {}
    for index in range(nvml.nvmlDeviceGetCount()):
        device = nvml.nvmlDeviceGetHandleByIndex(index)
        labels = (str(index), *_texts(nvml, device))
        memory = nvml.nvmlDeviceGetMemoryInfo(device)
        used[labels], total[labels] = memory.used, memory.total
        try:
            busy[labels] = nvml.nvmlDeviceGetUtilizationRates(device).gpu / 100
        except nvml.NVMLError:
            log.debug("GPU %d does not tell its utilization", index)  # MIG
    return {_USED.name: used, _TOTAL.name: total, _BUSY.name: busy}


def _texts(nvml: ModuleType, device: Any) -> tuple[str, str]:
    """Its UUID and name."""
    return nvml.nvmlDeviceGetUUID(device), nvml.nvmlDeviceGetName(device)
