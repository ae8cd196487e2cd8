"""The two aspired-version policies, as tables of snapshots and the one action each gives."""

import pytest

from serving.core.servable_id import ServableId
from serving.managers.loader_harness import HarnessState as S
from serving.managers.policies import (
    Action,
    Verb,
    VersionSnapshot,
    availability_preserving,
    preserving_everywhere,
    resource_preserving,
)


def action(text: str) -> Action | None:
    if not text:
        return None
    verb, version = text.split()
    return Action(Verb[verb.upper()], ServableId("m", int(version)))


Row = tuple[int, S, bool] | tuple[int, S, bool, bool]
"""Version, state, whether it is aspired to, and whether it is returning."""


def snapshots(*rows: Row) -> list[VersionSnapshot]:
    return [VersionSnapshot(ServableId("m", version), *row) for version, *row in rows]


@pytest.mark.parametrize(
    ("rule", "rows", "expected"),
    [
        ("nothing to do for nothing", [], ""),
        ("the highest new version is loaded first", [(1, S.NEW, True), (2, S.NEW, True)], "load 2"),
        ("a version that is loading is left alone", [(1, S.LOADING, True)], ""),
        ("a failed version is not loaded again", [(1, S.ERROR, True)], ""),
        (
            "the old one stays until the new one is ready",
            [(1, S.READY, False), (2, S.NEW, True)],
            "load 2",
        ),
        ("and while it loads", [(1, S.READY, False), (2, S.LOADING, True)], ""),
        ("and when it failed", [(1, S.READY, False), (2, S.ERROR, True)], ""),
        ("then it goes", [(1, S.READY, False), (2, S.READY, True)], "unload 1"),
        (
            "nothing wanted: the lowest goes first",
            [(2, S.READY, False), (1, S.READY, False)],
            "unload 1",
        ),
        (
            "one old version is enough to stay available",
            [(1, S.READY, False), (2, S.READY, False), (3, S.NEW, True)],
            "unload 1",
        ),
        (
            "what is leaving or failed is left alone, and the highest new one loads",
            [(1, S.UNLOADING, False), (2, S.ERROR, False), (3, S.READY, True), (4, S.NEW, True)],
            "load 4",
        ),
        (
            "an unload that costs no availability comes before a load",
            [(3, S.READY, False), (4, S.READY, True), (5, S.NEW, True)],
            "unload 3",
        ),
        (
            "a new one that loads does not matter where another is ready",
            [(1, S.READY, False), (2, S.LOADING, True), (3, S.READY, True)],
            "unload 1",
        ),
        (
            "nor does one that failed",
            [(1, S.READY, False), (2, S.ERROR, True), (3, S.READY, True)],
            "unload 1",
        ),
        (
            "of two old ones the lower goes, whatever becomes of the new ones",
            [(2, S.READY, False), (1, S.READY, False), (3, S.ERROR, True), (4, S.LOADING, True)],
            "unload 1",
        ),
        (
            "nothing to do where everything is under way, failed or gone",
            [
                (1, S.READY, True),
                (2, S.ERROR, True),
                (3, S.LOADING, True),
                (4, S.UNLOADING, False),
                (5, S.DISABLED, False),
            ],
            "",
        ),
        (
            "an old one on its way out does not count as available",
            [(1, S.QUIESCING, False), (2, S.READY, False), (3, S.NEW, True)],
            "load 3",
        ),
        (
            "what serves stays until one that is returning is back",
            [(1, S.READY, False), (2, S.LOADING, False, True)],
            "",
        ),
        (
            "or another that is wanted is ready",
            [(1, S.READY, False), (2, S.QUIESCING, False, True), (3, S.READY, True)],
            "unload 1",
        ),
        (
            "one that is returning holds up no load",
            [(1, S.READY, False), (2, S.LOADING, False, True), (3, S.NEW, True)],
            "load 3",
        ),
    ],
)
def test_availability_preserving(rule: str, rows: list[Row], expected: str) -> None:
    assert availability_preserving(snapshots(*rows)) == action(expected), rule


@pytest.mark.parametrize(
    ("rule", "rows", "expected"),
    [
        ("old versions go first", [(1, S.READY, False), (2, S.NEW, True)], "unload 1"),
        ("the lowest before the others", [(2, S.READY, False), (1, S.READY, False)], "unload 1"),
        ("the new one waits until they are gone", [(1, S.UNLOADING, False), (2, S.NEW, True)], ""),
        ("gone means unloaded", [(1, S.DISABLED, False), (2, S.NEW, True)], "load 2"),
        ("or failed", [(1, S.ERROR, False), (2, S.NEW, True)], "load 2"),
        ("the highest new version is loaded first", [(1, S.NEW, True), (2, S.NEW, True)], "load 2"),
        ("wanted versions stay", [(1, S.READY, True), (2, S.READY, True)], ""),
        (
            "the lowest old one that is ready goes, among wanted ones and others on their way",
            [
                (1, S.UNLOADING, False),
                (2, S.READY, True),
                (3, S.READY, False),
                (4, S.NEW, True),
                (5, S.READY, False),
            ],
            "unload 3",
        ),
        (
            "wanted ones that are there already hold up no load",
            [(1, S.READY, True), (2, S.LOADING, True), (3, S.NEW, True), (4, S.DISABLED, False)],
            "load 3",
        ),
        (
            "one old version on its way out holds up a load, failed ones beside it or not",
            [(1, S.ERROR, False), (2, S.UNLOAD_REQUESTED, False), (3, S.NEW, True)],
            "",
        ),
        (
            "what serves stays while nothing could be loaded in its place",
            [(1, S.READY, False), (2, S.QUIESCING, False, True), (3, S.NEW, True)],
            "",
        ),
        (
            "and goes once a wanted one is ready",
            [(1, S.READY, False), (2, S.QUIESCING, False, True), (3, S.READY, True)],
            "unload 1",
        ),
        (
            "a former life that is about to be forgotten is not gone yet",
            [(1, S.READY, False), (2, S.DISABLED, False, True), (3, S.NEW, True)],
            "",
        ),
        (
            "gone and failed ones hold up nothing",
            [(1, S.ERROR, False), (2, S.DISABLED, False), (3, S.NEW, True)],
            "load 3",
        ),
        (
            "nothing to do where everything is under way, failed or gone",
            [
                (1, S.READY, True),
                (2, S.ERROR, True),
                (3, S.LOADING, True),
                (4, S.UNLOADING, False),
                (5, S.DISABLED, False),
            ],
            "",
        ),
    ],
)
def test_resource_preserving(rule: str, rows: list[Row], expected: str) -> None:
    assert resource_preserving(snapshots(*rows)) == action(expected), rule


@pytest.mark.parametrize(
    ("rule", "rows", "everywhere", "expected"),
    [
        ("a new one that is not everywhere", [(1, S.READY, False), (2, S.READY, True)], {1}, ""),
        ("one that is", [(1, S.READY, False), (2, S.READY, True)], {1, 2}, "unload 1"),
        ("that it was does not help", [(1, S.READY, False), (2, S.ERROR, True)], {1, 2}, ""),
        ("nothing wanted any more", [(1, S.READY, False), (2, S.READY, False)], set(), "unload 1"),
        (
            "another old one that is everywhere",
            [(1, S.READY, False), (2, S.READY, False), (3, S.NEW, True)],
            {1, 2},
            "unload 1",
        ),
        (
            "what waits holds up no load",
            [(1, S.READY, False), (2, S.READY, True), (3, S.NEW, True)],
            {1},
            "load 3",
        ),
    ],
)
def test_preserving_everywhere_waits_with_an_unload_for(rule, rows, everywhere, expected):
    policy = preserving_everywhere(
        availability_preserving, lambda servable_id: servable_id.version in everywhere
    )
    assert policy(snapshots(*rows)) == action(expected), rule
