"""In how many instances versions are loaded, and on which devices: the server's word and theirs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from serving.config.text_proto import read_text_proto
from serving.core.errors import InvalidArgument, ServingError
from serving.generated.instance_config_pb2 import InstanceParameters
from serving.loaders.device import device_named
from serving.loaders.instances import InstanceOptions

_FILE_OF_A_VERSION = "instance_params.pbtxt"


@dataclass(frozen=True, slots=True)
class Instances:
    """What holds for versions that say nothing themselves."""

    options: InstanceOptions = field(default_factory=InstanceOptions)

    def options_for(self, version_path: str) -> InstanceOptions:
        """The options of the version in this directory.

        Its own ``instance_params.pbtxt`` takes the place of all that the server says. Raises
        InvalidArgument for one that is wrong or unreadable.
        """
        file = Path(version_path, _FILE_OF_A_VERSION)
        if not file.is_file():
            return self.options
        parameters = read_text_proto(str(file), InstanceParameters)
        try:
            return instance_options(parameters.instances_per_model, parameters.devices)
        except ServingError as error:
            raise InvalidArgument(f"{_FILE_OF_A_VERSION}: {error.message}") from None


def instance_options(count: int, devices: Iterable[str]) -> InstanceOptions:
    """The options with devices by their names; raises InvalidArgument for a name that is none."""
    return InstanceOptions(count, tuple(map(device_named, devices)))
