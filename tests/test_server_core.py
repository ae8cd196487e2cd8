"""The configured models: starting, reloading, labels, and what is refused.

The lookup-table platform stands in for all: its versions load in no time, from real files.
"""

import gc
import os
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from queue import SimpleQueue

import pytest
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving import awaited_models, lifecycle
from serving.core.clock import SystemClock
from serving.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
    Unknown,
)
from serving.core.model_config import AllVersions, ModelConfig, SpecificVersions, VersionPolicy
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.loaders.platforms import Platforms
from serving.managers.policies import Action, Verb, VersionSnapshot, availability_preserving
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions
from serving.sources import lister
from serving.sources.local_storage import LocalStorage


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


def test_after_the_start_every_model_is_available(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 7)
    with core(table(tmp_path / "a", "a"), table(tmp_path / "b", "b")) as served:
        assert served.available() == [ServableId("a", 1), ServableId("b", 7)]


def test_by_version_by_label_or_the_highest(tmp_path: Path) -> None:
    for version in (1, 2):
        write_version(tmp_path, version)
    with core(table(tmp_path, policy=AllVersions())) as served:
        assert served._monitor.wait_until(lambda: len(served.available()) == 2, WAIT_SECONDS)
        served.reload([table(tmp_path, labels={"stable": 1}, policy=AllVersions())])
        assert leased_version(served, ModelSpec("m")) == 2
        assert leased_version(served, ModelSpec("m", 1)) == 1
        assert leased_version(served, ModelSpec("m", version_label="stable")) == 1


def test_a_look_up_that_finds_nothing_leaves_no_reference_cycle(tmp_path: Path) -> None:
    """The collector would stop every call for them; without it the error goes when it is let go."""
    with core(table(tmp_path)) as served:
        outcomes: list[ServableHandle | ServingError] = []
        gc.disable()
        try:
            served.lease(ModelSpec("n"), None, outcomes.append)
            (error,) = map(weakref.ref, outcomes)
            outcomes.clear()
            assert error() is None
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        (ModelSpec(""), InvalidArgument("ModelSpec has no name specified.")),
        (ModelSpec("m", 7), NotFound("Servable not found for request: Specific(m, 7)")),
        (ModelSpec("n"), NotFound("Servable not found for request: Latest(n)")),
        (
            ModelSpec("m", version_label="beta"),
            InvalidArgument("Unrecognized servable version label: beta"),
        ),
        (
            ModelSpec("n", version_label="beta"),
            InvalidArgument("Unrecognized servable version label: beta"),
        ),
    ],
)
def test_what_can_not_be_resolved_is_refused(
    tmp_path: Path, spec: ModelSpec, error: ServingError
) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        assert str(error_of(lease_and_wait, served, spec)) == str(error)


def test_labels_are_unavailable_before_there_is_a_configuration() -> None:
    served = ServerCore(LifecycleOptions(), Platforms({}), clock=SystemClock())
    error = error_of(lease_and_wait, served, ModelSpec("m", version_label="stable"))
    assert str(error) == str(Unavailable("Model labels does not init yet.stable"))


def test_a_new_version_replaces_the_old_one(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            write_version(tmp_path, 2)
        assert served.available() == [ServableId("m", 2)]
        assert [(state.id.version, state.state.name) for state in served.versions("m")] == [
            (2, "AVAILABLE"),
            (1, "END"),
        ]


def test_a_version_taken_away_is_unloaded(tmp_path: Path) -> None:
    version = write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            version.rename(tmp_path / "retired")
        assert served.available() == []


def test_a_broken_version_shows_its_error_while_the_old_one_serves(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        with state_reached(served, ServableId("m", 2), ManagerState.END):
            write_version(tmp_path, 2, "three,columns,here\n")
        assert served.available() == [ServableId("m", 1)]
        broken = served.versions("m")[0]
        assert str(broken.error) == "INVALID_ARGUMENT: Unexpected format."


def test_a_version_that_failed_is_aspired_to_until_its_model_is_dropped(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1)
    a, b = table(tmp_path / "a", "a"), table(tmp_path / "b", "b")
    broken = ServableId("b", 2)
    with core(a, b) as served:
        with state_reached(served, broken, ManagerState.END):
            write_version(tmp_path / "b", 2, "three,columns,here\n")
        assert served.aspires_to(broken)
        with state_reached(served, ServableId("b", 1), ManagerState.END):
            served.reload([a])
        assert not served.aspires_to(broken)
        assert served.aspires_to(ServableId("a", 1))


def test_the_origin_of_a_version_is_where_it_is_configured_to_lie(tmp_path: Path) -> None:
    """The page of metrics names no copies."""
    local, remote = table(tmp_path, "a"), replace(table(tmp_path, "b"), base_path="https://h/b/")
    with core(file_system_poll_wait_seconds=-1) as served:
        served.begin_reload([local, remote], lambda _: None)
        assert served.origin(ServableId("a", 1), f"{tmp_path}/1") == f"{tmp_path}/1"
        assert served.origin(ServableId("b", 3), "/cache/x") == "https://h/b/3"


def test_an_initial_model_that_fails_for_good_fails_the_start(tmp_path: Path) -> None:
    write_version(tmp_path / "good", 1)
    write_version(tmp_path / "bad", 3, "three,columns,here\n")
    with (
        pytest.raises(Unknown) as raised,
        core(table(tmp_path / "good", "good"), table(tmp_path / "bad", "bad")),
    ):
        pass
    assert raised.value.message == (
        "1 servable(s) did not become available: {{{name: bad version: 3} "
        "due to error: INVALID_ARGUMENT: Unexpected format.}, }"
    )


def test_a_missing_model_stops_no_other_and_is_served_when_it_appears(tmp_path: Path) -> None:
    write_version(tmp_path / "here", 1)
    with core(table(tmp_path / "here", "here"), table(tmp_path / "late", "late")) as served:
        assert served.available() == [ServableId("here", 1)]
        with state_reached(served, ServableId("late", 4), ManagerState.AVAILABLE):
            write_version(tmp_path / "late", 4)


def test_the_state_of_a_model_without_versions_is_the_reason(tmp_path: Path) -> None:
    with core(table(tmp_path / "late", "late")) as served:
        with pytest.raises(NotFound) as raised:
            served.versions("late")
        assert raised.value.message == (
            "Could not find any versions of model late: Could not find base path "
            f"{tmp_path}/late for servable late (No such file or directory)"
        )
        assert served.versions("unknown") == []
        with state_reached(served, ServableId("late", 4), ManagerState.AVAILABLE):
            write_version(tmp_path / "late", 4)
        assert [state.id.version for state in served.versions("late")] == [4]


def test_a_base_path_that_vanishes_unloads_nothing(tmp_path: Path) -> None:
    write_version(tmp_path / "base", 1)
    with core(table(tmp_path / "base")) as served:
        (tmp_path / "base").rename(tmp_path / "outage")
        assert served.reload([table(tmp_path / "base")]) is None
        assert served.available() == [ServableId("m", 1)]


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


def test_a_label_must_name_an_available_version(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        served.reload([table(tmp_path, labels={"stable": 1})])
        error = error_of(served.reload, [table(tmp_path, labels={"stable": 2})])
        assert isinstance(error, FailedPrecondition)
        assert error.message == (
            "Request to assign label to version 2 of model m, "
            "which is not currently available for inference"
        )
        assert leased_version(served, ModelSpec("m", version_label="stable")) == 1


def test_a_new_label_may_run_ahead_of_its_version_where_that_is_allowed(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    labelled = table(tmp_path, labels={"stable": 1, "next": 2})
    with core(labelled, allow_version_labels_for_unavailable_models=True) as served:
        assert leased_version(served, ModelSpec("m", version_label="stable")) == 1
        error = error_of(lease_and_wait, served, ModelSpec("m", version_label="next"))
        assert error.message == "Servable not found for request: Specific(m, 2)"


def test_a_label_in_use_moves_only_to_an_available_version(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    allowed = {"allow_version_labels_for_unavailable_models": True}
    with core(table(tmp_path, labels={"stable": 1}), **allowed) as served:
        served.reload([table(tmp_path, labels={"stable": 1})])
        error = error_of(served.reload, [table(tmp_path, labels={"stable": 2})])
        assert isinstance(error, FailedPrecondition)


def test_stopping_unloads_everything(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        pass
    assert served.available() == []
    assert [(state.id.version, state.state.name) for state in served.versions("m")] == [(1, "END")]


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


def test_a_version_being_copied_is_waited_for_at_the_start(tmp_path: Path) -> None:
    version = write_version(tmp_path, 1)
    finished = threading.Timer(0.3, (version / "_DONE").touch)
    finished.start()
    with core(table(tmp_path), version_marker_file="_DONE") as served:
        assert served.available() == [ServableId("m", 1)]
    finished.join()


def test_what_exceeds_the_memory_limit_is_refused_as_a_state_and_disturbs_no_other(
    tmp_path: Path,
) -> None:
    write_version(tmp_path / "small", 1)
    with core(table(tmp_path / "small", "small"), total_model_memory_limit_bytes=1000) as served:
        write_version(tmp_path / "large", 1, "key,value\n" * 100)
        error = error_of(
            served.reload, [table(tmp_path / "small", "small"), table(tmp_path / "large", "large")]
        )
        assert error.message == (
            "1 model(s) did not become available: {{{name: large version: 1} due to error: "
            "RESOURCE_EXHAUSTED: Insufficient resources to load servable {name: large version: 1}: "
            "needs main:0 ram_in_bytes=3000; in use main:0 ram_in_bytes=30; "
            "limit main:0 ram_in_bytes=1000}, }"
        )
        assert served.available() == [ServableId("small", 1)]


def test_models_load_on_their_first_request_where_that_is_wanted(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    write_version(tmp_path / "b", 1)
    configs = [table(tmp_path / "a", "a"), table(tmp_path / "b", "b")]
    limits = {"load_on_first_request": True, "total_model_memory_limit_bytes": 50}
    with core(*configs, **limits) as served:
        assert served.available() == []
        assert [state.state.name for state in served.versions("a")] == ["START"]
        assert leased_version(served, ModelSpec("a")) == 1
        assert leased_version(served, ModelSpec("b")) == 1
        assert served.available() == [ServableId("b", 1)]
        assert served.aspires_to(ServableId("a", 1))
        served.reload(configs[1:])
        assert not served.aspires_to(ServableId("a", 1))


def test_a_cold_load_that_hangs_holds_up_no_other_model_and_is_bounded_by_the_deadline(
    tmp_path: Path,
) -> None:
    for name in ("hanging", "cold", "warm"):
        write_version(tmp_path / name, 1)
    (tmp_path / "hanging" / "1" / "table.csv").unlink()
    os.mkfifo(tmp_path / "hanging" / "1" / "table.csv")
    configs = [table(tmp_path / name, name) for name in ("hanging", "cold", "warm")]
    outcomes: SimpleQueue[ServableHandle | ServingError] = SimpleQueue()
    with core(*configs, load_on_first_request=True) as served:
        assert leased_version(served, ModelSpec("warm")) == 1
        with state_reached(served, ServableId("hanging", 1), ManagerState.LOADING):
            served.lease(ModelSpec("hanging"), time.monotonic() + 0.1, outcomes.put)
        assert leased_version(served, ModelSpec("warm")) == 1
        assert leased_version(served, ModelSpec("cold")) == 1
        error = outcomes.get(timeout=WAIT_SECONDS)
        assert str(error) == (
            "DEADLINE_EXCEEDED: The deadline passed before servable {name: hanging version: 1} "
            "was loaded"
        )
        (tmp_path / "hanging" / "1" / "table.csv").write_text("key,value\n")
        assert leased_version(served, ModelSpec("hanging")) == 1


def test_a_version_that_went_before_its_first_request_is_passed_over(tmp_path: Path) -> None:
    """Nobody has looked at the base path since."""
    for version in (1, 2):
        write_version(tmp_path, version)
    config = table(tmp_path, policy=AllVersions())
    with core(config, load_on_first_request=True, file_system_poll_wait_seconds=0) as served:
        shutil.rmtree(tmp_path / "2")
        assert leased_version(served, ModelSpec("m")) == 1
        error = error_of(lease_and_wait, served, ModelSpec("m", 2))
        assert isinstance(error, NotFound)
        assert error.message == "Servable {name: m version: 2} is not there any more"


def test_a_label_may_name_a_version_that_loads_on_its_first_request(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path), load_on_first_request=True) as served:
        error = error_of(served.reload, [table(tmp_path, labels={"stable": 2})])
        assert isinstance(error, FailedPrecondition)
        served.reload([table(tmp_path, labels={"stable": 1})])
        assert served.available() == []
        assert leased_version(served, ModelSpec("m", version_label="stable")) == 1
        error = error_of(lease_and_wait, served, ModelSpec("m", version_label="beta"))
        assert error.message == "Unrecognized servable version label: beta"


def test_where_models_load_on_their_first_request_it_finds_a_version_that_was_being_copied(
    tmp_path: Path,
) -> None:
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    configs = [table(tmp_path / name, name) for name in ("a", "b")]
    finished = [
        threading.Timer(0.3, (tmp_path / name / "1" / "_DONE").touch) for name in ("a", "b")
    ]
    finished[0].start()
    with core(configs[0], load_on_first_request=True, version_marker_file="_DONE") as served:
        assert leased_version(served, ModelSpec("a")) == 1
        finished[1].start()
        served.reload(configs)
        assert leased_version(served, ModelSpec("b")) == 1
    for timer in finished:
        timer.join()


def test_a_broken_version_answers_each_first_request_with_its_error(
    tmp_path: Path,
) -> None:
    write_version(tmp_path, 1, "three,columns,here\n")
    with core(table(tmp_path), load_on_first_request=True) as served:
        for _ in range(2):
            error = error_of(lease_and_wait, served, ModelSpec("m"))
            assert str(error) == "INVALID_ARGUMENT: Unexpected format."
        served.reload([])
        assert [state.state.name for state in served.versions("m")] == ["END"]


def test_the_resource_preserving_policy_unloads_before_it_loads(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    order: list[str] = []
    with core(table(tmp_path), aspired_version_policy="resource_preserving") as served:
        served.bus.subscribe(lambda event: order.append(f"{event.id.version} {event.state.name}"))
        with state_reached(served, ServableId("m", 2), ManagerState.AVAILABLE):
            write_version(tmp_path, 2)
    assert order.index("1 END") < order.index("2 LOADING")


def test_an_unknown_policy_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as raised:
        LifecycleOptions(aspired_version_policy="latest")
    assert raised.value.message == (
        "aspired_version_policy must be one of availability_preserving, resource_preserving, "
        "not 'latest'"
    )


def test_only_so_many_ended_versions_are_remembered(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path), max_ended_versions=1) as served:
        for version in (2, 3):
            with state_reached(served, ServableId("m", version - 1), ManagerState.END):
                write_version(tmp_path, version)
        assert [state.id.version for state in served.versions("m")] == [3, 2]


def test_nothing_is_looked_for_where_polling_is_off(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path), file_system_poll_wait_seconds=-1) as served:
        served.reload([table(tmp_path), table(tmp_path, "other")])
        assert served.available() == []


def test_a_base_path_that_no_storage_can_list_is_refused(tmp_path: Path) -> None:
    with core() as served:
        error = error_of(served.reload, [ModelConfig("m", "ftp://host/models", "hashmap")])
        assert isinstance(error, InvalidArgument)
        assert error.message.startswith("there is no storage for ftp://; there are: ")


def test_a_file_uri_is_a_local_path(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(ModelConfig("m", f"file://{tmp_path}", "hashmap")) as served:
        assert served.available() == [ServableId("m", 1)]


def test_at_least_one_ended_version_is_remembered() -> None:
    with pytest.raises(InvalidArgument, match="max_ended_versions must be at least 1, but is 0"):
        LifecycleOptions(max_ended_versions=0)


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


def specific(*versions: int) -> SpecificVersions:
    return SpecificVersions(frozenset(versions))


def move_label(served: ServerCore, base: Path, version: int, before: int) -> None:
    """Bring ``version`` in, give it the label, and drop the one before in the same reload."""
    both = table(base, labels={"stable": before}, policy=specific(version, before))
    served.reload([both])
    arrived = ServableId("m", version)
    assert served._monitor.wait_until(lambda: arrived in served.available(), WAIT_SECONDS)
    with state_reached(served, ServableId("m", before), ManagerState.END):
        served.reload([table(base, labels={"stable": version}, policy=specific(version))])


def test_a_label_that_moves_during_a_look_up_is_looked_up_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2):
        write_version(tmp_path, version)
    with core(table(tmp_path, policy=specific(1))) as served:
        served.reload([table(tmp_path, labels={"stable": 1}, policy=specific(1))])
        resolve = served._labels.resolve
        moves = [2]

        def resolve_while_it_moves(name: str, label: str) -> int:
            version = resolve(name, label)
            if moves:
                move_label(served, tmp_path, moves.pop(), 1)
            return version

        monkeypatch.setattr(served._labels, "resolve", resolve_while_it_moves)
        assert leased_version(served, ModelSpec("m", version_label="stable")) == 2


def test_a_label_whose_version_went_by_itself_is_not_found(tmp_path: Path) -> None:
    version = write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        served.reload([table(tmp_path, labels={"stable": 1})])
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            version.rename(tmp_path / "retired")
        error = error_of(lease_and_wait, served, ModelSpec("m", version_label="stable"))
        assert str(error) == "NOT_FOUND: Servable not found for request: Specific(m, 1)"


@pytest.mark.usefixtures("threads_that_take_turns_often")
def test_no_call_by_label_fails_while_the_label_moves(tmp_path: Path) -> None:
    for version in (1, 2):
        write_version(tmp_path, version)
    calls, over = Counter[int](), threading.Event()

    def call(served: ServerCore) -> None:
        while not over.is_set():
            calls[leased_version(served, ModelSpec("m", version_label="stable"))] += 1

    with core(table(tmp_path, policy=specific(1))) as served, ThreadPoolExecutor(4) as pool:
        served.reload([table(tmp_path, labels={"stable": 1}, policy=specific(1))])
        callers = [pool.submit(call, served) for _ in range(4)]
        try:
            for _ in range(10):
                move_label(served, tmp_path, 2, 1)
                move_label(served, tmp_path, 1, 2)
        finally:
            over.set()
        for caller in callers:
            caller.result()
    assert calls.keys() == {1, 2}


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


def test_of_two_names_for_one_version_the_last_is_served_and_the_log_says_so_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_version(tmp_path, "001", "name,001\n")
    write_version(tmp_path, 1, "name,1\n")
    with core(table(tmp_path, policy=AllVersions()), version_settle_seconds=0) as served:
        served.reload([table(tmp_path, policy=AllVersions())])
        assert served.available() == [ServableId("m", 1)]
        assert [state.state.name for state in served.versions("m")] == ["AVAILABLE"]
    said = f"servable m under base path {tmp_path}: 001 and 1 stand for version 1; 1 is taken"
    assert caplog.text.count(said) == 1


def test_a_model_and_its_versions_answer_while_they_are_available(tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    with core(table(tmp_path / "m")) as served:
        assert served.is_answering("m")
        assert served.is_answering("m", 1)
        assert served.is_answering("m", 2) is None
        with state_reached(served, ServableId("m", 1), ManagerState.END):
            shutil.rmtree(tmp_path / "m" / "1")
        assert served.is_answering("m") is False
        assert served.is_answering("m", 1) is False


def test_a_configured_model_without_versions_is_known_and_does_not_answer(tmp_path: Path) -> None:
    with core(table(tmp_path / "missing")) as served:
        assert served.is_answering("m") is False
        assert served.is_answering("other") is None


def test_what_loads_on_its_first_request_answers(tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    with core(table(tmp_path / "m"), load_on_first_request=True) as served:
        assert served.is_answering("m")
        assert served.is_answering("m", 1)


def test_a_server_can_serve_while_one_of_its_models_can_be_asked_for(tmp_path: Path) -> None:
    write_version(tmp_path / "a", 1)
    missing = table(tmp_path / "missing", "missing")
    with core(table(tmp_path / "a", "a"), missing) as served:
        assert served.can_serve()
        served.begin_reload([missing], lambda _error: None)
        assert not served.can_serve()


def test_a_server_without_a_configured_model_waits_to_be_given_some(tmp_path: Path) -> None:
    with core() as served:
        assert served.can_serve()
