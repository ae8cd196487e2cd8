"""Which models to serve: names, where their versions lie, which versions, labels, request logs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class LatestVersions:
    """Serve the ``count`` highest versions."""

    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"the number of latest versions must be at least 1, not {self.count}")


@dataclass(frozen=True, slots=True)
class AllVersions:
    """Serve every version found."""


@dataclass(frozen=True, slots=True)
class SpecificVersions:
    """Serve exactly these versions."""

    versions: frozenset[int]


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


@dataclass(frozen=True, slots=True)
class TaskSampling:
    """The share of calls that one server of a fleet logs; ``task_index`` None: any server's."""

    dc: str
    task_index: int | None
    sampling_rate: float


@dataclass(frozen=True, slots=True)
class LoggingConfig:
    """Where calls of a model are logged, and which share of them, as it was configured.

    ``encoded_sampling`` is the serialized SamplingConfig, which each record repeats.
    """

    collector_type: str
    filename_prefix: str
    sampling_rate: float
    task_sampling: tuple[TaskSampling, ...] = ()
    encoded_sampling: bytes = b""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """One configured model. ``base_path`` is the parent of the version directories.

    Where ``platform`` is empty, the files of each version tell it.
    """

    name: str
    base_path: str
    platform: str = "tensorflow"
    version_policy: VersionPolicy = LatestVersions()
    version_labels: Mapping[str, int] = field(default_factory=dict)
    logging: LoggingConfig | None = None
