"""Which devices a platform says that it can load models onto."""

from __future__ import annotations

import pytest

from serving.loaders.device import CPU, Device
from serving.loaders.guarded_platform import GuardedPlatform
from serving.loaders.platform import devices_of
from serving.loaders.platforms import Platforms


class OnAccelerators:
    """A platform of somebody else's."""

    devices = (CPU, Device("gpu", 1))

    def estimate(self, path: str) -> None: ...

    def load(self, servable_id: object, path: str, device: object = None) -> None: ...


def test_a_platform_that_says_nothing_has_the_processor():
    assert list(devices_of(Platforms({}).get("hashmap"))) == [CPU]


def test_a_platform_of_others_is_asked_through_its_guard():
    assert list(devices_of(GuardedPlatform(OnAccelerators()))) == [CPU, Device("gpu", 1)]


@pytest.mark.parametrize("name", ["caffe2", "cntk", "mxnet"])
def test_what_onnxruntime_computes_has_its_devices(name: str):
    platforms = Platforms({})
    platform = platforms.get(name)
    platform._onnx._providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert list(devices_of(platform)) == [CPU, Device("gpu")]
