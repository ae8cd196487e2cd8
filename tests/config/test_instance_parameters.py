"""What versions say of their own instances."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.config.instances import Instances
from serving.core.errors import InvalidArgument
from serving.loaders.device import CPU, Device
from serving.loaders.instances import InstanceOptions

SERVER = Instances(InstanceOptions(2, (CPU,)))


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (None, SERVER.options),
        ("", InstanceOptions()),
        ("instances_per_model: 3", InstanceOptions(3)),
        ('devices: "gpu:1" devices: "cpu"', InstanceOptions(0, (Device("gpu", 1), CPU))),
    ],
)
def test_a_versions_own_file_replaces_all_that_the_server_says(
    tmp_path: Path, text: str | None, options: InstanceOptions
):
    if text is not None:
        (tmp_path / "instance_params.pbtxt").write_text(text)
    assert SERVER.options_for(str(tmp_path)) == options


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "instances_per_model: -2",
            "instance_params.pbtxt: instances_per_model must not be negative, but is -2",
        ),
        (
            'devices: "gpu:one"',
            "instance_params.pbtxt: 'gpu:one' is not a device; devices are called cpu:0, gpu:0, "
            "gpu:1 …",
        ),
    ],
)
def test_a_wrong_one_is_said(tmp_path: Path, text: str, message: str):
    (tmp_path / "instance_params.pbtxt").write_text(text)
    with pytest.raises(InvalidArgument) as raised:
        SERVER.options_for(str(tmp_path))
    assert raised.value.message == message


def test_a_file_that_does_not_parse_is_named(tmp_path: Path):
    (tmp_path / "instance_params.pbtxt").write_text("instances: 3")
    with pytest.raises(InvalidArgument, match=r"instance_params\.pbtxt.*at line 1"):
        SERVER.options_for(str(tmp_path))
