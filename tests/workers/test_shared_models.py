"""A worker's models as clients see them, while the other workers are elsewhere."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import WAIT_SECONDS

from serving.core.clock import SystemClock
from serving.core.model_config import AllVersions, LatestVersions, ModelConfig
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.loaders.platforms import Platforms
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.workers.shared_models import SharedModels

V1, V2 = ServableId("m", 1), ServableId("m", 2)


def write_version(base: Path, version: int) -> None:
    unfinished = base.with_name("unfinished")
    unfinished.mkdir()
    (unfinished / "table.csv").write_text("key,value\n")
    unfinished.rename(base / str(version))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.fixture
def everywhere() -> set[ServableId]:
    return {V1}


@pytest.fixture
def core(base: Path, everywhere: set[ServableId]) -> Iterator[ServerCore]:
    """Serves version 1; what is everywhere is the test's to say."""
    write_version(base, 1)
    made = ServerCore(
        LifecycleOptions(version_settle_seconds=0, file_system_poll_wait_seconds=0),
        Platforms({}),
        clock=SystemClock(),
        is_everywhere=everywhere.__contains__,
    )
    try:
        made.start([ModelConfig("m", str(base), "hashmap")])
        yield made
    finally:
        made.stop()


def serve(core: ServerCore, base: Path, policy: AllVersions | LatestVersions) -> None:
    """Serve what is there now; returns when version 2 is available."""
    reached = threading.Event()

    def hear(state: ServableState) -> None:
        if state == ServableState(V2, ManagerState.AVAILABLE):
            reached.set()

    with core.bus.subscribe(hear):
        core.reload([ModelConfig("m", str(base), "hashmap", policy)])
        assert reached.wait(WAIT_SECONDS)


def version_of(models: SharedModels, spec: ModelSpec) -> int:
    with lease_and_wait(models, spec) as handle:
        return handle.id.version


def test_the_old_version_stays_until_the_new_one_is_everywhere(
    core: ServerCore, base: Path, everywhere: set[ServableId]
) -> None:
    write_version(base, 2)
    serve(core, base, LatestVersions())
    core.reconsider("m")
    # Both wait on the manager's thread, so the version would be gone before this one is loaded.
    assert list(core.available()) == [V1, V2]

    gone = threading.Event()

    def hear(state: ServableState) -> None:
        if state == ServableState(V1, ManagerState.END):
            gone.set()

    with core.bus.subscribe(hear):
        everywhere.add(V2)
        core.reconsider("m")
        assert gone.wait(WAIT_SECONDS)
    assert list(core.available()) == [V2]


def test_requests_without_a_version_get_the_latest_that_is_everywhere(
    core: ServerCore, base: Path
) -> None:
    latest: dict[str, int] = {}
    models = SharedModels(core, latest, {}, lambda configs, done: None)
    write_version(base, 2)
    serve(core, base, AllVersions())
    assert version_of(models, ModelSpec("m")) == 2

    latest["m"] = 1
    assert version_of(models, ModelSpec("m")) == 1
    assert version_of(models, ModelSpec("m", 2)) == 2

    latest["m"] = 9
    assert version_of(models, ModelSpec("m")) == 2


def test_states_are_those_of_all_workers(core: ServerCore) -> None:
    combined = [ServableState(V1, ManagerState.LOADING)]
    models = SharedModels(core, {}, {"m": combined}, lambda configs, done: None)
    assert models.versions("m") == combined
    assert models.versions("n") == ()


def test_the_names_are_those_that_this_worker_is_configured_with(core: ServerCore) -> None:
    assert SharedModels(core, {}, {}, lambda configs, done: None).names() == ["m"]
