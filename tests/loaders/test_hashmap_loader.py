"""Lookup tables from CSV files."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from serving.core.errors import InvalidArgument, NotFound
from serving.core.servable import Servable, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.hashmap_loader import HashmapPlatform

M1 = ServableId("m", 1)


def table(path: Path, text: str = "one,1\ntwo,2\n") -> Servable:
    (path / "table.csv").write_text(text, encoding="utf-8")
    return HashmapPlatform().load(M1, str(path))


def look_up(servable: Servable, keys: Sequence[object]) -> list[list[object]]:
    feeds = {"keys": np.array(keys, np.object_)}
    return [output.tolist() for output in run_and_wait(servable, feeds, ["values", "found"])]


def test_keys_are_looked_up_and_unknown_ones_are_marked(tmp_path: Path) -> None:
    servable = table(tmp_path)
    assert look_up(servable, [b"two", b"three"]) == [[b"2", b""], [True, False]]
    assert look_up(servable, [[b"one"], [b"two"]]) == [[[b"1"], [b"2"]], [[True], [True]]]
    assert look_up(servable, []) == [[], []]


def test_values_may_be_quoted_and_not_ascii(tmp_path: Path) -> None:
    assert look_up(table(tmp_path, '"a,b",ü\n'), [b"a,b"])[0] == ["ü".encode()]


@pytest.mark.parametrize("text", ["one\n", "one,1,more\n", "a,1\n\n"])
def test_a_line_that_is_not_key_and_value_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"Unexpected format\."):
        table(tmp_path, text)


def test_a_file_that_is_no_text_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe,\x00")
    with pytest.raises(InvalidArgument) as raised:
        HashmapPlatform().load(M1, str(tmp_path))
    assert raised.value.message == (
        "the table of {name: m version: 1} can not be read: UnicodeDecodeError"
    )


def test_a_directory_must_hold_exactly_one_table(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="but there are 0"):
        HashmapPlatform().estimate(str(tmp_path))
    (tmp_path / "a.csv").touch()
    (tmp_path / "b.csv").touch()
    with pytest.raises(NotFound, match="but there are 2"):
        HashmapPlatform().load(M1, str(tmp_path))


def test_wrong_types_and_names_are_refused(tmp_path: Path) -> None:
    servable = table(tmp_path)
    with pytest.raises(InvalidArgument, match="keys must be strings, not int64"):
        run_and_wait(servable, {"keys": np.array([1])}, ["values"])
    with pytest.raises(InvalidArgument, match="no tensor called 'x'"):
        run_and_wait(servable, {"keys": np.array([b"a"], np.object_)}, ["x"])


def test_a_circle_of_links_is_refused_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "1").symlink_to("1")
    path = str(tmp_path / "1")
    with pytest.raises(InvalidArgument) as raised:
        HashmapPlatform().estimate(path)
    assert raised.value.message == "the table can not be read: Too many levels of symbolic links"
    with pytest.raises(InvalidArgument) as raised:
        HashmapPlatform().load(M1, path)
    assert raised.value.message == (
        "the table of {name: m version: 1} can not be read: Too many levels of symbolic links"
    )


def test_a_directory_that_may_not_be_read_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: object) -> NoReturn:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InvalidArgument, match="can not be read: Permission denied"):
        HashmapPlatform().load(M1, str(tmp_path))
