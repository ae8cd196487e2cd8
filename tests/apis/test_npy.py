"""numpy's files, read from bytes that nobody vouches for."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.apis.tensorflow_serving.rest.npy import npy_bytes, npz_bytes, read_npy, read_npz
from serving.core.errors import InvalidArgument, RequestTooLarge


def saved(array, version=None, *, allow_pickle=False):
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version, allow_pickle=allow_pickle)
    return file.getvalue()


def with_header(header: str, data: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


ARRAYS = [
    np.arange(6, dtype=np.float32).reshape(2, 3),
    np.asfortranarray(np.arange(6, dtype=">i8").reshape(2, 3)),
    np.array(1.5),
    np.zeros((0, 4), np.uint8),
    np.array([True, False]),
    np.array([b"a", b"bcd"]),
    np.array(["é", ""]),
    np.array([b"", b""]),
    np.array([1 + 2j], np.complex64),
    np.zeros(2, "V2"),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_is_read(array, version):
    read = read_npy(saved(array, version))
    assert (read.dtype, read.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(read, array)


def test_the_array_is_the_memory_of_the_file():
    data = saved(np.arange(4.0))
    assert np.shares_memory(read_npy(data), np.frombuffer(data, np.uint8))


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,)}"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not in the .npy format, versions 1 to 3"),
        (b"\x93NUMPY\x04\x00", "not in the .npy format, versions 1 to 3"),
        (b"\x93NUMPY\x01\x00\x10", "the .npy header is cut short"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{}", "the .npy header is cut short, or too long"),
        (with_header(GOOD, bytes(7)), "promises 8 bytes of <f4[2], but 7 follow"),
        (with_header(GOOD, bytes(9)), "promises 8 bytes of <f4[2], but 9 follow"),
        (saved(np.array([{}]), allow_pickle=True), "the .npy dtype must be of numbers"),
        (with_header(GOOD.replace("<f4", "|O"), bytes(16)), "the .npy dtype must be of numbers"),
        (with_header(GOOD.replace("<f4", "M8[s]"), bytes(16)), "the .npy dtype must be of"),
        (with_header(GOOD.replace("<f4", "(2,)f4"), bytes(16)), "the .npy dtype must be of"),
        (with_header(GOOD.replace("'<f4'", "[('a','f4')]")), "the .npy dtype must be of numbers"),
        (with_header(GOOD.replace("(2,)", "(-2,)")), "the .npy shape must be a tuple of sizes"),
        (with_header(GOOD.replace("(2,)", "(2.0,)")), "the .npy shape must be a tuple of sizes"),
        (with_header(GOOD.replace("(2,)", "(True,)")), "the .npy shape must be a tuple of sizes"),
        (with_header(GOOD.replace("(2,)", f"({2**30},{2**30})")), "but 0 follow"),
        (with_header(GOOD.replace("(2,)", f"({2**40},{2**40})")), "dimensions or elements"),
        (with_header(GOOD.replace("(2,)", f"(0,{2**61},{2**61})")), "dimensions or elements"),
        (with_header(GOOD.replace("<f4", "S0").replace("2", f"0,{2**70}")), "or elements"),
        (with_header(GOOD.replace("<f4", "<U0").replace("2", f"0,{2**61}")), "or elements"),
        (with_header(GOOD.replace("<f4", "V999999999")), "promises 1999999998 bytes"),
        (with_header(GOOD.replace("<f4", "U999999999")), "the .npy header can not be read"),
        (with_header(GOOD.replace("(2,)", "(1,)*40")), "the .npy header can not be read"),
        (with_header(GOOD.replace("(2,)", str((1,) * 40))), "too many dimensions"),
        (with_header(GOOD.replace("<f4", "S0").replace("2", str(2**60))), "or elements"),
        (with_header(GOOD[:-3]), "the .npy header can not be read"),
        (with_header("(" * 5000), "the .npy header can not be read"),
        (with_header("{'descr': '<f4'}"), "must have descr, fortran_order and shape"),
        (with_header("__import__('os').getpid()"), "the .npy header can not be read"),
    ],
)
def test_anything_else_is_refused_with_the_reason(data, reason):
    with pytest.raises(InvalidArgument) as refused:
        read_npy(data)
    assert reason in refused.value.message


def test_archives_are_read_as_numpy_writes_them():
    arrays = {"a": ARRAYS[0], "b:0": ARRAYS[5]}
    for save in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        save(file, **arrays)
        read = read_npz(file.getvalue(), 10**6)
        assert read.keys() == arrays.keys()
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


def test_numpy_reads_what_is_written():
    np.testing.assert_array_equal(np.load(io.BytesIO(npy_bytes(ARRAYS[0]))), ARRAYS[0])
    with np.load(io.BytesIO(npz_bytes({"a/b": ARRAYS[0], "c": ARRAYS[5]}))) as archive:
        assert sorted(archive) == ["a/b", "c"]
        np.testing.assert_array_equal(archive["c"], ARRAYS[5])


def zipped(members, method=zipfile.ZIP_DEFLATED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def test_an_archive_that_unpacks_to_too_much_is_refused():
    bomb = zipped([(f"{number}.npy", bytes(2**20)) for number in range(3)])
    with pytest.raises(RequestTooLarge):
        read_npz(bomb, 2 * 2**20)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"PK", "not an .npz archive, or a broken one"),
        (zipped([("a.npy", b"x")]), "array a: not in the .npy format, versions 1 to 3"),
        (zipped([("a.npy", npy_bytes(ARRAYS[0])), ("a", b"")]), "array a: there twice"),
        (zipped([("a.npy", b"x")], zipfile.ZIP_LZMA), "compressed in another way"),
    ],
)
def test_other_archives_are_refused_with_the_reason(archive, reason):
    with pytest.raises(InvalidArgument) as refused:
        read_npz(archive, 10**6)
    assert reason in refused.value.message


@settings(max_examples=300)
@given(st.data())
def test_a_file_with_something_broken_is_read_or_refused_and_nothing_else(data):
    archive = data.draw(st.booleans())
    good = npz_bytes({"a": ARRAYS[0], "b": ARRAYS[5]}) if archive else saved(ARRAYS[0])
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(0, len(broken)))])
    for form in (bytes(broken), cut):
        with contextlib.suppress(InvalidArgument, RequestTooLarge):
            read_npz(form, 10**6) if archive else read_npy(form)


HOSTILE = """
import random
from serving.apis.tensorflow_serving.rest.npy import read_npy
from serving.core.errors import InvalidArgument

chance = random.Random(1)
ORDERS = ["", "<", ">", "|", "=", "(2,)", "1"]
KINDS = ["m8", "M8", "O", "S", "U", "V", "f", "i", "u", "b", "c", "a", "T", "g", "void"]
SIZES = ["", "0", "1", "4", "8", "16", "999999999", "9" * 12, "-1"]
UNITS = ["", "[s]", "[s/0]", "[0s]", "[7D/0]", "[-1us]", "[9e9s]", "[", "]", ",i4", "[/0]"]
SHAPES = ["()", "(0,)", "(1,)", "(0,2**61)", "(-1,)", str((0, 2**61, 2**61)), str((2**64,)), "[1]"]

def read(descr, shape, data):
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}".encode()
    try:
        read_npy(b"\\x93NUMPY\\x01\\x00" + len(header).to_bytes(2, "little") + header + data)
    except InvalidArgument:
        pass

read("m8[s/0]", "(1,)", bytes(8))
for _ in range(5000):
    descr = "".join(map(chance.choice, (ORDERS, KINDS, SIZES, UNITS)))
    read(descr, chance.choice(SHAPES), bytes(chance.choice([0, 1, 8])))
print("read")
"""


def test_no_header_ends_the_process():
    """Left alone, numpy divides by a client's zero; this is tried in a process of its own."""
    command = [sys.executable, "-c", HOSTILE]
    done = subprocess.run(command, capture_output=True, check=False, timeout=50)
    assert (done.returncode, done.stdout) == (0, b"read\n"), done.stderr
