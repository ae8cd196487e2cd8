"""What the event bus says of versions: where they stand, how long loads and unloads took."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.core.errors import InvalidArgument
from serving.core.event_bus import EventBus
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.registry import Metrics
from serving.monitoring import version_metrics
from serving.monitoring.version_metrics import VersionMetrics
from serving.testing import FakeClock

BROKEN = InvalidArgument("broken")


class Versions:
    """Versions of m, and what their metrics say."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.clock = FakeClock()
        self.unwanted: set[int] = set()
        self._bus: EventBus[ServableState] = EventBus()
        self.listener = VersionMetrics(
            self.metrics, self.clock, lambda each: each.version not in self.unwanted
        )
        self._bus.subscribe(self.listener.hear)

    def goes(self, version: int, *states: str, error: InvalidArgument | None = None) -> None:
        """Through these states, each of which takes two seconds."""
        for name in states:
            state = ManagerState[name]
            id_ = ServableId("m", version)
            failed = error if state is ManagerState.END else None
            self._bus.publish(ServableState(id_, state, failed))
            self.clock.advance(2)

    def states(self) -> dict[str, str]:
        cells = self.metrics.snapshot()["model_server_version_state"].cells
        assert set(cells.values()) <= {1}
        return {version: state for _, version, state in cells}

    def durations(self, name: str) -> dict[tuple[str, ...], tuple[int, float]]:
        cells = self.metrics.snapshot()[f"model_server_{name}_duration_seconds"].cells
        return {labels: (sum(cell.counts), cell.sum) for labels, cell in cells.items()}


@pytest.fixture
def versions() -> Versions:
    return Versions()


def test_each_version_is_in_its_state(versions: Versions) -> None:
    versions.goes(1, "START", "LOADING", "AVAILABLE")
    versions.goes(2, "START", "LOADING")
    assert versions.states() == {"1": "AVAILABLE", "2": "LOADING"}


def test_a_load_lasts_until_the_version_is_available(versions: Versions) -> None:
    versions.goes(1, "START", "LOADING", "AVAILABLE")
    assert versions.durations("load") == {("m", "OK"): (1, 2.0)}
    assert versions.durations("unload") == {}


def test_an_unload_lasts_until_the_end_and_then_the_version_is_gone(versions: Versions) -> None:
    versions.goes(1, "START", "LOADING", "AVAILABLE", "UNLOADING")
    assert versions.listener.is_here(ServableId("m", 1))
    versions.goes(1, "END")
    assert versions.durations("unload") == {("m",): (1, 2.0)}
    assert versions.states() == {}
    assert not versions.listener.is_here(ServableId("m", 1))


def test_a_load_that_fails_counts_with_its_code_and_is_shown(versions: Versions) -> None:
    versions.goes(1, "START", "LOADING", "END", error=BROKEN)
    assert versions.durations("load") == {("m", "INVALID_ARGUMENT"): (1, 2.0)}
    assert versions.states() == {"1": "FAILED"}
    versions.goes(1, "START", "LOADING", "AVAILABLE")
    assert versions.states() == {"1": "AVAILABLE"}


def test_a_version_that_fails_before_it_loads_is_no_load(versions: Versions) -> None:
    versions.goes(1, "START", "END", error=BROKEN)
    assert versions.durations("load") == {}
    assert versions.states() == {"1": "FAILED"}


def test_a_failure_is_shown_until_the_version_is_not_wanted_any_more(versions: Versions) -> None:
    """So that an alert for it ends when somebody has done something about it."""
    for version in (1, 2):
        versions.goes(version, "START", "LOADING", "END", error=BROKEN)
    versions.goes(3, "START", "LOADING", "AVAILABLE")
    versions.unwanted = {1, 3}
    assert versions.states() == {"2": "FAILED", "3": "AVAILABLE"}
    versions.unwanted = set()
    assert versions.states() == {"2": "FAILED", "3": "AVAILABLE"}


def test_only_the_last_failures_are_shown(versions: Versions, monkeypatch) -> None:
    monkeypatch.setattr(version_metrics, "_MOST_FAILED", 2)
    for version in (1, 2, 3):
        versions.goes(version, "START", "LOADING", "END", error=BROKEN)
    assert versions.states() == {"2": "FAILED", "3": "FAILED"}


@pytest.mark.parametrize(
    ("content", "uuid"),
    [(b"4f2c-1\n", "4f2c-1"), (b"\xff", ""), (b"x" * 999, "x" * 256), (None, "")],
)
def test_a_loaded_version_has_its_platform_and_uuid_until_it_ends(
    versions: Versions, tmp_path: Path, content: bytes | None, uuid: str
) -> None:
    if content is not None:
        (tmp_path / "assets.extra").mkdir()
        (tmp_path / "assets.extra" / "mlmd_uuid").write_bytes(content)
    versions.goes(1, "START", "LOADING")
    versions.listener.loaded(ServableId("m", 1), str(tmp_path), "onnx")
    versions.goes(1, "AVAILABLE")

    def infos() -> set[tuple[str, ...]]:
        return set(versions.metrics.snapshot()["model_server_version_info"].cells)

    assert infos() == {("m", "1", "onnx", uuid)}
    versions.goes(1, "UNLOADING", "END")
    assert infos() == set()
