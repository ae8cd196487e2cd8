"""What an instance of a model runs on."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.servable_id import ServableId

_NAME = re.compile(r"(cpu|gpu)(?::([0-9]{1,4}))?", re.IGNORECASE)


class Device(NamedTuple):
    """One device of this machine: ``number`` from 0 among those of its kind, ``cpu`` or ``gpu``."""

    kind: str
    number: int = 0

    def __str__(self) -> str:
        return f"{self.kind}:{self.number}"


CPU = Device("cpu")


def device_named(name: str) -> Device:
    """``gpu:1``, in letters of either case; a kind alone is its first device.

    Raises InvalidArgument for any other text. Whether the machine has it the platform knows.
    """
    match = _NAME.fullmatch(name.strip())
    if not match:
        raise InvalidArgument(f"'{name}' is not a device; devices are called cpu:0, gpu:0, gpu:1 …")
    kind, number = match.groups()
    return Device(kind.lower(), int(number or 0))


def no_such_device(
    servable_id: ServableId, device: Device, devices: Iterable[Device]
) -> FailedPrecondition:
    """The error of a version that is to run on a device that its platform does not have."""
    there = ", ".join(map(str, sorted(devices)))
    return FailedPrecondition(
        f"{servable_id} is to run on {device}, which its platform does not have here; "
        f"it has {there}"
    )
