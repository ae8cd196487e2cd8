"""Models that load in no time, from real files: lookup tables stand in for every platform."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from serving.core.clock import SystemClock
from serving.core.errors import (
    ServingError,
)
from serving.core.model_config import ModelConfig, VersionPolicy
from serving.core.models import ModelSpec, lease_and_wait
from serving.loaders.platforms import Platforms
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions


def write_version(base: Path, version: int | str, text: str = "key,value\n") -> Path:
    """A version of a lookup table; it gets its number only when it is whole."""
    base.mkdir(exist_ok=True)
    unfinished = base / "unfinished"
    unfinished.mkdir()
    (unfinished / "table.csv").write_text(text)
    return unfinished.rename(base / str(version))


def table(
    base: Path,
    name: str = "m",
    labels: Mapping[str, int] | None = None,
    policy: VersionPolicy | None = None,
) -> ModelConfig:
    choice = {"version_policy": policy} if policy else {}
    return ModelConfig(name, str(base), "hashmap", version_labels=labels or {}, **choice)


@contextmanager
def core(*configs: ModelConfig, **options: object) -> Iterator[ServerCore]:
    lifecycle = LifecycleOptions(**{"max_num_load_retries": 0, **options})  # type: ignore[arg-type]  # a test's shorthand
    made = ServerCore(lifecycle, Platforms({}), clock=SystemClock())
    try:
        made.start(configs)
        yield made
    finally:
        made.stop()


def leased_version(served: ServerCore, spec: ModelSpec) -> int:
    with lease_and_wait(served, spec) as handle:
        return handle.id.version


def error_of(call: object, *arguments: object) -> ServingError:
    with pytest.raises(ServingError) as raised:
        call(*arguments)  # type: ignore[operator]  # a test's shorthand
    return raised.value
