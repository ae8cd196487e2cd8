"""How the configured models are found, loaded and retried."""

from __future__ import annotations

from dataclasses import dataclass, field

from serving.core.errors import InvalidArgument
from serving.sources.model_cache import ModelCacheOptions

ASPIRED_VERSION_POLICIES = ("availability_preserving", "resource_preserving")


@dataclass(frozen=True, slots=True)
class LifecycleOptions:
    """Options of ServerCore. Raises InvalidArgument for a negative number or an unknown policy.

    ``file_system_poll_wait_seconds`` 0 looks for versions once, negative never;
    ``model_config_file_poll_wait_seconds`` 0 or less never reads the file again;
    ``load_retry_interval_seconds`` negative does not wait. With 0 load or unload threads that work
    is done one version after another; the first round of loads has threads of its own.
    ``total_model_memory_limit_bytes`` 0 is no limit.
    """

    file_system_poll_wait_seconds: int = 1
    model_config_file_poll_wait_seconds: int = 0
    num_load_threads: int = 0
    num_unload_threads: int = 0
    num_initial_load_threads: int = 4
    max_num_load_retries: int = 5
    load_retry_interval_seconds: float = 60.0
    allow_version_labels_for_unavailable_models: bool = False
    aspired_version_policy: str = "availability_preserving"
    load_on_first_request: bool = False
    total_model_memory_limit_bytes: int = 0
    version_settle_seconds: float = 0.0
    version_marker_file: str = ""
    max_ended_versions: int = 100
    model_cache: ModelCacheOptions = field(default_factory=ModelCacheOptions)

    def __post_init__(self) -> None:
        for name in (
            "num_load_threads",
            "num_unload_threads",
            "num_initial_load_threads",
            "max_num_load_retries",
            "total_model_memory_limit_bytes",
            "version_settle_seconds",
        ):
            if getattr(self, name) < 0:
                raise InvalidArgument(f"{name} must not be negative, but is {getattr(self, name)}")
        if self.max_ended_versions < 1:
            # A failure that is forgotten at once could not be told to whoever waits for the load.
            raise InvalidArgument(
                f"max_ended_versions must be at least 1, but is {self.max_ended_versions}"
            )
        if self.aspired_version_policy not in ASPIRED_VERSION_POLICIES:
            raise InvalidArgument(
                f"aspired_version_policy must be one of {', '.join(ASPIRED_VERSION_POLICIES)}, "
                f"not '{self.aspired_version_policy}'"
            )
