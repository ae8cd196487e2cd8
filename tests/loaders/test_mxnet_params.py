"""Files of MXNet's parameters are read in all of their forms, and what is none is refused."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path

import mxnet_models
import numpy as np
import pytest
from mxnet_models import FLAGS, OLDEST, V1, V2, V3

from serving.core.errors import InvalidArgument
from serving.loaders.mxnet_params import read_params

MATRIX = np.arange(6, dtype=np.float32).reshape(2, 3)


def read(tmp_path: Path, content: bytes):
    file = tmp_path / "m-0000.params"
    file.write_bytes(content)
    return read_params(file)


def refusal(tmp_path: Path, content: bytes) -> str:
    with pytest.raises(InvalidArgument, match=r"^INVALID_ARGUMENT: m-0000\.params") as raised:
        read(tmp_path, content)
    return raised.value.message


@pytest.mark.parametrize("form", [OLDEST, V1, V2, V3])
def test_each_form_of_an_array_is_read(tmp_path: Path, form: int):
    arrays = {"arg:weight": MATRIX, "aux:mean": np.array([7], np.float32)}
    found = read(tmp_path, mxnet_models.params_bytes(arrays, form))
    assert found.keys() == {"weight", "mean"}
    np.testing.assert_array_equal(found["weight"], MATRIX)
    np.testing.assert_array_equal(found["mean"], [7])


@pytest.mark.parametrize("dtype", FLAGS)
def test_each_type_is_read(tmp_path: Path, dtype: str):
    values = np.array([[0, 1], [1, 0]], dtype)
    (found,) = read(tmp_path, mxnet_models.params_bytes({"plain name": values})).values()
    assert found.dtype == values.dtype
    np.testing.assert_array_equal(found, values)


def test_a_number_alone_is_read_from_the_newest_form(tmp_path: Path):
    found = read(tmp_path, mxnet_models.params_bytes({"arg:x": np.float32([5])[0:1]}, V3))
    scalar = mxnet_models.params_bytes({"arg:x": np.array(5, np.float32)}, V3)
    assert read(tmp_path, scalar)["x"].shape == ()
    assert found["x"].shape == (1,)


def test_an_array_without_a_value_is_left_out(tmp_path: Path):
    """MXNet ends it after its shape, which has no dimensions."""
    content = struct.pack("<QQQIiI", 0x112, 0, 1, V2, 0, 0) + struct.pack("<QQ", 1, 1) + b"x"
    assert read(tmp_path, content) == {}


def test_every_file_that_is_cut_short_is_refused(tmp_path: Path):
    whole = mxnet_models.params_bytes({"arg:weight": MATRIX, "arg:bias": MATRIX[0]})
    for size in range(1, len(whole)):
        refusal(tmp_path, whole[:size])


def test_no_number_in_a_file_makes_it_take_memory(tmp_path: Path):
    """Sizes and counts of any height, at every place, are refused or mean nothing."""
    whole = mxnet_models.params_bytes({"arg:weight": MATRIX})
    refused: list[str] = []
    tracemalloc.start()
    for place in range(8, len(whole) - 4, 4):
        for number in (2**31 - 1, -1, -(2**31)):
            changed = whole[:place] + struct.pack("<i", number) + whole[place + 4 :]
            try:
                read(tmp_path, changed)
            except InvalidArgument as error:
                refused.append(error.message)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2**21
    assert max(map(len, refused)) < 200


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04" + bytes(60), "begins otherwise"),
        (b"{}", "begins otherwise"),
        (struct.pack("<QQQIi", 0x112, 0, 1, V2, 1) + bytes(50), "sparse"),
        (struct.pack("<QQQIiIqiii", 0x112, 0, 1, V2, 0, 1, 1, 1, 0, 12) + bytes(50), "type 12"),
        (struct.pack("<QQQIiI", 0x112, 0, 1, V2, 0, 2000) + bytes(50), "2000 dimensions"),
        (struct.pack("<QQQIiIq", 0x112, 0, 1, V2, 0, 1, -4) + bytes(50), r"shape [-4]"),
        (struct.pack("<QQQ", 0x112, 0, 0) + struct.pack("<QQ", 1, 0), "0 arrays, but 1 names"),
    ],
)
def test_what_is_refused_is_said(tmp_path: Path, content: bytes, reason: str):
    assert reason in refusal(tmp_path, content)


def test_names_are_utf_8_and_not_given_twice(tmp_path: Path):
    twice = mxnet_models.params_bytes({"arg:x": MATRIX, "aux:x": MATRIX})
    assert "same name" in refusal(tmp_path, twice)
    assert "UTF-8" in refusal(tmp_path, twice[:-1] + b"\xff")
