"""A new configuration for a server that runs: what comes, what goes, and what changes nothing."""

import threading
from collections.abc import Sequence
from pathlib import Path
from queue import SimpleQueue

import pytest
from served_tables import core, error_of, leased_version, table, write_version
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving import lifecycle
from serving.core.errors import (
    InvalidArgument,
    ServingError,
)
from serving.core.model_config import ModelConfig
from serving.core.models import ModelSpec
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.managers.policies import Action, Verb, VersionSnapshot, availability_preserving


def test_a_reload_returns_once_new_models_are_available_and_drops_the_others(
    tmp_path: Path,
) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1)
    with core(table(tmp_path / "a", "a")) as served:
        with state_reached(served, ServableId("a", 1), ManagerState.END):
            served.reload([table(tmp_path / "b", "b")])
            assert ServableId("b", 1) in served.available()
        assert served.available() == [ServableId("b", 1)]
        assert served.names() == ["b"]


def test_a_dropped_model_can_come_back(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            served.reload([])
        served.reload([table(tmp_path)])
        assert served.available() == [ServableId("m", 1)]


def test_a_reload_that_brings_a_model_back_waits_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when it comes just before the unload of the version that was dropped is announced."""
    dropped, go_on = threading.Event(), threading.Event()

    def unload_slowly(versions: Sequence[VersionSnapshot]) -> Action | None:
        action = availability_preserving(versions)
        if action and action.verb is Verb.UNLOAD:
            dropped.set()
            assert go_on.wait(WAIT_SECONDS)
        return action

    monkeypatch.setitem(lifecycle._POLICIES, "availability_preserving", unload_slowly)
    write_version(tmp_path / "m", 1)
    with core(table(tmp_path / "m")) as served:
        served.reload([])
        assert dropped.wait(WAIT_SECONDS)
        outcome: SimpleQueue[ServingError | None] = SimpleQueue()
        served.begin_reload([table(tmp_path / "m")], outcome.put)
        assert outcome.empty()
        go_on.set()
        assert outcome.get(timeout=WAIT_SECONDS) is None
        assert leased_version(served, ModelSpec("m")) == 1


@pytest.mark.parametrize("load_on_first_request", [False, True])
def test_a_reload_that_names_a_missing_path_says_so_and_does_not_hang(
    tmp_path: Path, load_on_first_request: bool
) -> None:
    with core(load_on_first_request=load_on_first_request) as served:
        error = error_of(served.reload, [table(tmp_path / "missing")])
        assert str(error) == (
            "UNKNOWN: 1 model(s) did not become available: {{{name: m} due to error: "
            f"INVALID_ARGUMENT: Could not find base path {tmp_path}/missing for servable m "
            "(No such file or directory)}, }"
        )


def test_a_reload_whose_new_model_is_broken_says_why_and_keeps_the_others(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1, "three,columns,here\n")
    with core(table(tmp_path / "a", "a")) as served:
        error = error_of(served.reload, [table(tmp_path / "a", "a"), table(tmp_path / "b", "b")])
        assert error.message == (
            "1 model(s) did not become available: {{{name: b version: 1} "
            "due to error: INVALID_ARGUMENT: Unexpected format.}, }"
        )
        assert served.available() == [ServableId("a", 1)]


@pytest.mark.parametrize(
    ("configs", "text"),
    [
        (
            [ModelConfig("m", "/a"), ModelConfig("m", "/b")],
            "Illegal to list model m multiple times in config list",
        ),
        (
            [ModelConfig("n", "relative/path")],
            "Expected model n to have an absolute path or URI; got base_path()=relative/path",
        ),
        ([ModelConfig("n", "/a", "caffe")], "Model n requests unsupported platform caffe"),
        (
            [ModelConfig("m", "/a", "tensorflow")],
            "Illegal to change a model's platform. For model m platform was hashmap "
            "and new platform requested is tensorflow",
        ),
    ],
)
def test_a_configuration_that_is_refused_changes_nothing(
    tmp_path: Path, configs: list[ModelConfig], text: str
) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        error = error_of(served.reload, configs)
        assert isinstance(error, InvalidArgument)
        assert error.message == text
        assert served.available() == [ServableId("m", 1)]


def test_a_failed_version_is_loaded_once_its_files_are_mended(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 2), ManagerState.END):
            broken = write_version(tmp_path, 2, "three,columns,here\n")
        with state_reached(served, ServableId("m", 2), ManagerState.AVAILABLE):
            (broken / "table.csv").write_text("key,mended\n")


def test_a_reload_tries_failed_versions_again(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 2), ManagerState.END):
            write_version(tmp_path, 2, "three,columns,here\n")
        with (
            state_reached(served, ServableId("m", 2), ManagerState.LOADING),
            state_reached(served, ServableId("m", 2), ManagerState.END),
        ):
            served.reload([table(tmp_path)])


def test_a_reload_that_waits_holds_up_no_other(tmp_path: Path) -> None:
    """The first names a model that never loads as its marker is missing; it ends when dropped."""
    for name in ("stuck", "good"):
        write_version(tmp_path / name, 1)
    (tmp_path / "good" / "1" / "_DONE").touch()
    ended: list[ServingError | None] = []
    with core(version_marker_file="_DONE") as served:
        served.begin_reload([table(tmp_path / "stuck", "stuck")], ended.append)
        served.reload([table(tmp_path / "good", "good")])
        assert served.available() == [ServableId("good", 1)]
        assert ended == [None]


def test_a_version_that_was_loaded_after_it_had_failed_is_not_revised_by_a_reload(
    tmp_path: Path,
) -> None:
    with core(file_system_poll_wait_seconds=0) as served:
        broken = write_version(tmp_path, 1, "three,columns,here\n")
        error_of(served.reload, [table(tmp_path)])
        (broken / "table.csv").write_text("key,mended\n")
        with state_reached(served, ServableId("m", 1), ManagerState.AVAILABLE):
            served.reload([table(tmp_path)])
        before = served._source._contents.revision(str(broken))
        served.reload([table(tmp_path)])
        assert served._source._contents.revision(str(broken)) == before
