"""Storage that does not answer, and versions that are not whole."""

import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from queue import SimpleQueue

import pytest
from served_tables import core, error_of, table, write_version
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving import awaited_models
from serving.core.errors import (
    ServingError,
)
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.sources import lister
from serving.sources.local_storage import LocalStorage


class Mount:
    """A directory whose listing hangs until the mount is back."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_back = threading.Event()
        children = LocalStorage.children

        def hang(storage: LocalStorage, base_path: str) -> Mapping[str, str]:
            if base_path == str(path):
                self.is_back.wait(30)
            return children(storage, base_path)

        monkeypatch.setattr(LocalStorage, "children", hang)
        monkeypatch.setattr(lister, "SECONDS_TO_ANSWER", 0.5)
        patience = dict.fromkeys(awaited_models._SECONDS_OF_PATIENCE, 1.0)
        monkeypatch.setattr(awaited_models, "_SECONDS_OF_PATIENCE", patience)


@pytest.fixture
def dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mount]:
    """The base path ``dead``, which holds a version that nobody can see for now."""
    write_version(tmp_path / "dead", 1)
    mount = Mount(tmp_path / "dead", monkeypatch)
    yield mount
    mount.is_back.set()


@pytest.mark.parametrize("interval", [0, 0.1])
def test_a_base_path_that_hangs_holds_up_no_other_and_is_served_once_it_answers(
    tmp_path: Path, dead: Mount, caplog: pytest.LogCaptureFixture, interval: float
) -> None:
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    configs = [table(tmp_path / name, name) for name in ("dead", "a")]
    with core(*configs, file_system_poll_wait_seconds=interval) as served:
        assert served.available() == [ServableId("a", 1)]
        served.reload([*configs, table(tmp_path / "b", "b")])
        assert served.available() == [ServableId("a", 1), ServableId("b", 1)]
        with state_reached(served, ServableId("dead", 1), ManagerState.AVAILABLE):
            dead.is_back.set()
    silent = f"Servable dead can not be looked for: its base path does not answer ({tmp_path}/dead)"
    assert caplog.text.count(silent) == 1
    assert caplog.text.count(f"Base path {tmp_path}/dead answers again") == 1


@pytest.mark.usefixtures("dead")
def test_a_reload_that_names_a_base_path_that_hangs_says_so(tmp_path: Path) -> None:
    with core() as served:
        for _ in range(2):
            error = error_of(served.reload, [table(tmp_path / "dead", "dead")])
            assert error.message == (
                "1 model(s) did not become available: {{{name: dead} due to error: "
                "DEADLINE_EXCEEDED: Servable dead can not be looked for: its base path does not "
                f"answer ({tmp_path}/dead)}}, }}"
            )
            served.reload([])


def test_a_base_path_that_hangs_unloads_nothing(tmp_path: Path, dead: Mount) -> None:
    dead.is_back.set()
    with core(table(tmp_path / "dead", "dead"), file_system_poll_wait_seconds=0) as served:
        dead.is_back.clear()
        served.reload([table(tmp_path / "dead", "dead")])
        assert "does not answer" in str(served._source.problems["dead"])
        assert served.available() == [ServableId("dead", 1)]


def test_without_further_looks_an_incomplete_version_is_waited_for_no_longer_than_patience_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    patience = dict.fromkeys(awaited_models._SECONDS_OF_PATIENCE, 0.1)
    monkeypatch.setattr(awaited_models, "_SECONDS_OF_PATIENCE", patience)
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1)
    once = {"file_system_poll_wait_seconds": 0, "version_marker_file": "_DONE"}
    with core(table(tmp_path / "a", "a"), **once) as served:
        assert served.available() == []
        error = error_of(served.reload, [table(tmp_path / "b", "b")])
        assert error.message == (
            "1 model(s) did not become available: {{{name: b} due to error: UNAVAILABLE: No version"
            f" of servable b under base path {tmp_path}/b is complete yet}}, }}"
        )


def test_a_reload_ends_when_what_it_waits_for_is_dropped_where_nobody_looks_again(
    tmp_path: Path,
) -> None:
    write_version(tmp_path, 1)
    outcome: SimpleQueue[ServingError | None] = SimpleQueue()
    once = {"file_system_poll_wait_seconds": 0, "version_marker_file": "_DONE"}
    with core(**once) as served:
        served.begin_reload([table(tmp_path)], outcome.put)
        assert outcome.empty()
        served.reload([])
        assert outcome.get(timeout=WAIT_SECONDS) is None
