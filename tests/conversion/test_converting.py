"""A converted version is whole at its destination, or nothing has changed there."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from serving.conversion import converting
from serving.conversion.converting import Conversion, convert, version_path
from serving.conversion.routes import ROUTES, route_for
from serving.conversion.verification import Verified
from serving.core.errors import AlreadyExists, DataLoss, InvalidArgument, NotFound
from serving.work_in_child import Outcome


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A version with a frozen graph, which nothing here reads."""
    (tmp_path / "graph" / "1").mkdir(parents=True)
    (tmp_path / "graph" / "1" / "graph.pb").write_bytes(b"a graph")
    return tmp_path / "graph" / "1"


@pytest.fixture
def wanted(monkeypatch) -> list[Mapping[str, Any]]:
    """What a stand-in for the process that converts was asked for; it writes one file."""
    asked = []

    def work(target: str, argument: Mapping[str, Any], timeout_seconds: float | None) -> Outcome:
        asked.append(argument)
        Path(argument["target"], "saved_model.pb").write_bytes(b"converted")
        return Outcome(asdict(Verified(requests=3)))

    monkeypatch.setattr(converting, "work_in_child", work)
    return asked


def names(folder: Path) -> list[str]:
    return sorted(child.name for child in folder.iterdir())


def to_saved_model(source: Path, destination: Path, **more: Any) -> Conversion:
    return Conversion(str(source), str(destination), "saved_model", **more)


def test_the_version_is_where_it_was_wanted(source, wanted, tmp_path):
    converted = convert(to_saved_model(source, tmp_path / "new" / "7"))
    assert converted.path == tmp_path / "new" / "7"
    assert converted.verified.requests == 3
    assert names(tmp_path / "new") == ["7"]
    assert names(tmp_path / "new" / "7") == ["saved_model.pb"]
    assert wanted[0]["source"] == str(source)


def test_a_destination_that_is_no_number_gets_its_next_version(tmp_path):
    assert version_path(tmp_path / "m") == tmp_path / "m" / "1"
    (tmp_path / "m" / "9").mkdir(parents=True)
    (tmp_path / "m" / "10").mkdir()
    assert version_path(tmp_path / "m") == tmp_path / "m" / "11"
    assert version_path(tmp_path / "m" / "3") == tmp_path / "m" / "3"


def test_what_is_there_stays_unless_it_is_to_be_replaced(source, wanted, tmp_path):
    there = tmp_path / "new" / "7"
    there.mkdir(parents=True)
    (there / "old").write_bytes(b"")
    with pytest.raises(AlreadyExists, match="--force"):
        convert(to_saved_model(source, there))
    assert names(there) == ["old"]
    assert wanted == []

    convert(to_saved_model(source, there, replaces=True))
    assert names(there) == ["saved_model.pb"]
    assert names(tmp_path / "new") == ["7"]


def test_of_a_version_that_is_a_link_the_link_is_replaced(source, wanted, tmp_path):
    there = tmp_path / "new" / "7"
    there.parent.mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "old").write_bytes(b"")
    for linked in (tmp_path / "elsewhere", tmp_path / "absent"):
        there.symlink_to(linked)
        with pytest.raises(AlreadyExists, match="--force"):
            convert(to_saved_model(source, there))
        assert convert(to_saved_model(source, there, replaces=True)).kept is None
        assert names(there) == ["saved_model.pb"]
        assert names(there.parent) == ["7"]
        shutil.rmtree(there)
    assert names(tmp_path / "elsewhere") == ["old"]


def test_what_is_replaced_but_can_not_be_removed_is_told(source, wanted, monkeypatch, tmp_path):
    there = tmp_path / "new" / "7"
    there.mkdir(parents=True)
    (there / "old").write_bytes(b"")

    def refused(path: object, *, dir_fd: int | None = None) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "unlink", refused)
        kept = convert(to_saved_model(source, there, replaces=True)).kept
    assert kept is not None
    assert names(kept) == ["old"]
    assert kept.parent == there.parent
    assert names(there) == ["saved_model.pb"]


def test_an_empty_directory_is_taken(source, wanted, tmp_path):
    (tmp_path / "new" / "7").mkdir(parents=True)
    convert(to_saved_model(source, tmp_path / "new" / "7"))
    assert names(tmp_path / "new") == ["7"]


def test_nothing_is_left_of_a_conversion_that_fails(source, monkeypatch, tmp_path):
    def work(target: str, argument: Mapping[str, Any], timeout_seconds: float | None) -> Outcome:
        Path(argument["target"], "half").write_bytes(b"written")
        return Outcome(None, DataLoss("they differ"))

    monkeypatch.setattr(converting, "work_in_child", work)
    before = names(tmp_path)
    converted = convert(to_saved_model(source, tmp_path / "new" / "deep" / "7"))
    assert isinstance(converted.error, DataLoss)
    assert names(tmp_path) == before


def test_what_was_to_be_replaced_is_still_there_after_a_conversion_that_fails(
    source, monkeypatch, tmp_path
):
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "old").write_bytes(b"")
    outcome = Outcome(None, DataLoss("they differ"))
    monkeypatch.setattr(converting, "work_in_child", lambda *_: outcome)
    convert(to_saved_model(source, tmp_path / "7", replaces=True))
    assert names(tmp_path / "7") == ["old"]


def test_neither_lies_inside_of_the_other(source, wanted, tmp_path):
    for destination in (source, source / "2", source.parent.parent / "1" / ".." / "graph" / "1"):
        with pytest.raises(InvalidArgument, match="inside of what is converted, or around it"):
            convert(to_saved_model(source, destination, replaces=True))
    inner = tmp_path / "3" / "1"
    source.parent.rename(tmp_path / "3")
    with pytest.raises(InvalidArgument, match="inside of what is converted, or around it"):
        convert(to_saved_model(inner, tmp_path / "3", replaces=True))
    assert names(inner) == ["graph.pb"]
    assert wanted == []


def test_a_version_beside_the_source_is_as_good_as_any(source, wanted):
    assert convert(to_saved_model(source.parent, source.parent)).path == source.parent / "2"
    assert wanted[0]["source"] == str(source)


def test_a_way_that_there_is_not_is_told_with_those_that_there_are(source, wanted, tmp_path):
    with pytest.raises(InvalidArgument, match=r"no way from graph_def to onnx; there are: .*keras"):
        convert(Conversion(str(source), str(tmp_path / "new"), "onnx"))
    with pytest.raises(NotFound):
        convert(to_saved_model(tmp_path / "absent", tmp_path / "new"))
    assert wanted == []


def test_every_route_is_found():
    for route in ROUTES:
        assert route_for(route.source, route.to) is route
