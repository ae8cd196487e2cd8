"""Where a version stands in several processes together."""

from __future__ import annotations

import pytest

from serving.core.errors import InvalidArgument
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.workers.combined_states import combine, combine_furthest

ID = ServableId("m", 1)
FAILED = ServableState(ID, ManagerState.END, InvalidArgument("no graph"))


def state(name: str) -> ServableState | None:
    if name == "failed":
        return FAILED
    return None if name == "unknown" else ServableState(ID, ManagerState[name])


@pytest.mark.parametrize(
    ("rule", "states", "before", "expected"),
    [
        ("available is available everywhere", "AVAILABLE AVAILABLE", "LOADING", "AVAILABLE"),
        ("not where one still loads", "AVAILABLE LOADING", "LOADING", "LOADING"),
        ("nor where one has not seen it", "AVAILABLE unknown", "LOADING", "LOADING"),
        ("one failure is a failure", "AVAILABLE failed", "LOADING", "failed"),
        ("also while another still loads", "LOADING failed", "LOADING", "failed"),
        ("on its way out of one, of all", "AVAILABLE UNLOADING", "AVAILABLE", "UNLOADING"),
        ("also where one is through with it", "AVAILABLE END", "AVAILABLE", "UNLOADING"),
        ("and where all but one are", "END UNLOADING", "UNLOADING", "UNLOADING"),
        ("ended when the last has ended", "END END", "UNLOADING", "END"),
        ("a new process knows nothing of what ended", "END unknown", "END", "END"),
        ("the next life begins", "START END", "END", "START"),
        ("and loads", "AVAILABLE END", "LOADING", "LOADING"),
        ("known to one is known", "START unknown", None, "START"),
    ],
)
def test_of_processes_that_load_all_they_serve(
    rule: str, states: str, before: str | None, expected: str
) -> None:
    combined = combine(
        [state(name) for name in states.split()], ManagerState[before] if before else None
    )
    assert combined == state(expected), rule


@pytest.mark.parametrize(
    ("rule", "states", "expected"),
    [
        ("loaded by one, for which somebody asked", "START AVAILABLE", "AVAILABLE"),
        ("loading in one", "START LOADING unknown", "LOADING"),
        ("unloaded to make room in one, and offered", "UNLOADING START", "START"),
        ("failed in one, served by another", "failed AVAILABLE", "AVAILABLE"),
        ("failed where it was asked for", "failed END", "failed"),
    ],
)
def test_of_processes_that_load_on_the_first_request(rule: str, states: str, expected: str) -> None:
    combined = combine_furthest([state(name) for name in states.split()], None)
    assert combined == state(expected), rule
