"""Configured models that load when they are first asked for."""

import os
import shutil
import threading
import time
from pathlib import Path
from queue import SimpleQueue

from served_tables import core, error_of, leased_version, table, write_version
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving.core.errors import (
    FailedPrecondition,
    NotFound,
    ServingError,
)
from serving.core.model_config import AllVersions
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState


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
