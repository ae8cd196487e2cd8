"""The configured models: starting, looking up, stopping, and what is refused."""

import gc
import shutil
import threading
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
from served_tables import core, error_of, leased_version, table, write_version
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving.core.clock import SystemClock
from serving.core.errors import (
    InvalidArgument,
    NotFound,
    ServingError,
    Unavailable,
    Unknown,
)
from serving.core.model_config import AllVersions, ModelConfig
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.loaders.platforms import Platforms
from serving.server_core import ServerCore
from serving.server_core_options import LifecycleOptions


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


def test_stopping_unloads_everything(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    with core(table(tmp_path)) as served:
        pass
    assert served.available() == []
    assert [(state.id.version, state.state.name) for state in served.versions("m")] == [(1, "END")]


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
