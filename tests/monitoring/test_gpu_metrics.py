"""GPUs: what NVML tells of them, and nothing without."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from serving.metrics.registry import Metrics
from serving.monitoring.gpu_metrics import GpuMetrics, add_gpu_metrics


class NVMLError(Exception):
    pass


class FakeNvml(SimpleNamespace):
    """Two devices, of which the second does not tell how busy it is."""

    NVMLError = NVMLError

    def nvmlDeviceGetCount(self):  # noqa: N802  # NVML's names
        return 2

    def nvmlDeviceGetHandleByIndex(self, index):  # noqa: N802  # as above
        return index

    def nvmlDeviceGetUUID(self, device):  # noqa: N802  # as above
        return f"GPU-{device}"

    def nvmlDeviceGetName(self, device):  # noqa: N802  # as above
        return "Fake"

    def nvmlDeviceGetMemoryInfo(self, device):  # noqa: N802  # as above
        return SimpleNamespace(used=10 + device, total=100)

    def nvmlDeviceGetUtilizationRates(self, device):  # noqa: N802  # as above
        if device == 1:
            raise NVMLError
        return SimpleNamespace(gpu=25)


def test_each_device_is_told_by_its_number_uuid_and_name():
    first, second = ("0", "GPU-0", "Fake"), ("1", "GPU-1", "Fake")
    assert GpuMetrics(FakeNvml()).sample() == {
        "model_server_gpu_memory_used_bytes": {first: 10, second: 11},
        "model_server_gpu_memory_total_bytes": {first: 100, second: 100},
        "model_server_gpu_utilization_ratio": {first: 0.25},
    }


def test_one_that_fails_keeps_the_others_from_nobody_and_is_logged_once(caplog):
    class Broken(FakeNvml):
        def nvmlDeviceGetMemoryInfo(self, device):  # noqa: N802  # NVML's names
            if device == 0:
                raise NVMLError("lost")
            return super().nvmlDeviceGetMemoryInfo(device)

    gpus = GpuMetrics(Broken())
    for _ in range(2):
        used = gpus.sample()["model_server_gpu_memory_used_bytes"]
        assert used == {("1", "GPU-1", "Fake"): 11}
    assert caplog.messages == ["GPU 0 does not tell its metrics: lost"]


def test_without_the_package_there_are_no_metrics(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    metrics = Metrics()
    add_gpu_metrics(metrics)
    assert metrics.snapshot() == {}
