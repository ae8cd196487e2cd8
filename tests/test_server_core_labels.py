"""Labels of the configured models, also while they move."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from served_tables import core, error_of, leased_version, table, write_version
from state_events import state_reached
from waiting import WAIT_SECONDS

from serving.core.errors import (
    FailedPrecondition,
)
from serving.core.model_config import SpecificVersions
from serving.core.models import ModelSpec, lease_and_wait
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState
from serving.server_core import ServerCore


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
