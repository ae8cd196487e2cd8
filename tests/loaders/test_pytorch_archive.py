"""Files that are not what they are called, or would run code of their own, are refused unread."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import pytorch_models as models  # skips where PyTorch is not installed

from serving.core.errors import InvalidArgument
from serving.core.servable_id import ServableId
from serving.loaders.pytorch_loader import PyTorchPlatform

torch = models.torch
PROGRAM = "models/model.json"


class Bomb:
    """What unpickling it does is seen in the file system."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self) -> Any:
        return (os.mkdir, (str(self._trace),))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("whole") / "model.pt2"
    return models.export(file, models.Tower(), models.tensors(models.TOWER_INPUTS))


def refusal(file: Path) -> str:
    with pytest.raises(InvalidArgument) as raised:
        PyTorchPlatform().load(ServableId("m", 1), str(file.parent))
    assert str(file.parent) not in raised.value.message
    return raised.value.message


def changed(source: Path, target: Path, change: Callable[[str, bytes], bytes], **more: bytes):
    """The archive again, with other content; ``more`` are members beside."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            new.writestr(name, change(name.partition("/")[2], old.read(name)))
        root = old.namelist()[0].partition("/")[0]
        for name, content in more.items():
            new.writestr(f"{root}/{name.replace('__', '/')}", content)
    return target


def edited(source: Path, target: Path, edit: Callable[[Any], None]) -> Path:
    """The archive with another program."""

    def change(name: str, content: bytes) -> bytes:
        if name != PROGRAM:
            return content
        document = json.loads(content)
        edit(document)
        return json.dumps(document).encode()

    return changed(source, target, change)


def test_an_archive_that_was_packed_again_is_loaded(exported: Path, tmp_path: Path):
    """So that the refusals below are those of what is changed."""
    edited(exported, tmp_path / "model.pt2", lambda document: None)
    PyTorchPlatform().load(ServableId("m", 1), str(tmp_path))


@pytest.mark.parametrize("suffix", ["pt2", "pt", "pth", "ts"])
@pytest.mark.parametrize("is_old", [False, True], ids=["zip", "old"])
def test_pickled_modules_are_refused_and_not_unpickled(tmp_path: Path, suffix: str, is_old: bool):
    file, trace = tmp_path / f"model.{suffix}", tmp_path / "ran"
    torch.save(Bomb(trace), file, _use_new_zipfile_serialization=not is_old)
    assert refusal(file) == (
        f"model.{suffix} is a pickle, as torch.save writes of modules and state dicts, which "
        "could run any code: save the model with torch.export.save, as .pt2"
    )
    assert not trace.exists()


def test_a_pickle_for_example_inputs_is_not_unpickled(exported: Path, tmp_path: Path):
    trace = tmp_path / "ran"
    bomb = tmp_path / "bomb"
    torch.save((Bomb(trace),), bomb)
    file = changed(
        exported,
        tmp_path / "model.pt2",
        lambda name, content: bomb.read_bytes() if name.endswith("model.pt") else content,
    )
    assert "has a pickle in 'data/sample_inputs/model.pt' that holds more than" in refusal(file)
    assert not trace.exists()


def test_a_pickle_for_weights_is_not_unpickled(exported: Path, tmp_path: Path):
    trace = tmp_path / "ran"
    file = changed(
        exported,
        tmp_path / "model.pt2",
        lambda name, content: (
            content.replace(b'"use_pickle": false', b'"use_pickle": true')
            if name.endswith("weights_config.json")
            else pickle.dumps(Bomb(trace))
            if name.endswith("weight_0")
            else content
        ),
    )
    assert "which is no plain tensor" in refusal(file)
    assert not trace.exists()


def test_compiled_code_is_refused(exported: Path, tmp_path: Path):
    more = {"data__aotinductor__model__a.so": b"\x7fELF"}
    file = changed(exported, tmp_path / "model.pt2", lambda _, content: content, **more)
    assert "has 'data/aotinductor/model/a.so', which is not data" in refusal(file)


EVIL = "__import__('os').mkdir('ran')"


def _size(document: Any, code: str) -> None:
    document["graph_module"]["graph"]["tensor_values"]["x"]["sizes"][0] = {
        "as_expr": {"expr_str": code, "hint": None}
    }


def _parameter(document: Any, code: str) -> None:
    document["graph_module"]["graph"]["inputs"][-1]["as_tensor"]["name"] = f"ids={code}"


def _operator(document: Any, code: str) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.mkdir"


def _library(document: Any, code: str) -> None:
    document["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.load_library"


def _structure(document: Any, code: str) -> None:
    (call, *_) = document["graph_module"]["module_call_graph"]
    call["signature"]["out_spec"] = call["signature"]["out_spec"].replace(
        "builtins.dict", "collections.defaultdict"
    )


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (_size, "has the size"),
        (_parameter, "has the name"),
        (_operator, "calls 'torch.os.mkdir', which is no operator of PyTorch's"),
        (_library, "calls 'torch.ops.load_library', which is no operator of PyTorch's"),
        (_structure, "takes or gives 'collections.defaultdict', which is no tuple, list or dict"),
    ],
)
def test_a_program_of_other_code_than_operators_is_refused(
    exported: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    edit: Callable[[Any, str], None],
    text: str,
):
    monkeypatch.chdir(tmp_path)
    file = edited(exported, tmp_path / "model.pt2", lambda document: edit(document, EVIL))
    message = refusal(file)
    assert message.startswith(f"the exported program {text}")
    assert message.endswith("; it is not loaded, as it could run any code")
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    "name", ["metadata", "guards_code", "as_string", "as_strings", "torch_version"]
)
def test_a_tensor_that_is_called_as_a_free_text_is_checked_as_any_other(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
):
    monkeypatch.chdir(tmp_path)

    def edit(document: Any) -> None:
        _size(document, EVIL)
        values = document["graph_module"]["graph"]["tensor_values"]
        values[name] = values.pop("x")
        renamed = json.dumps(document).replace('"name": "x"', f'"name": "{name}"')
        document.update(json.loads(renamed))

    file = edited(exported, tmp_path / "model.pt2", edit)
    assert "has the size" in refusal(file)
    assert not Path("ran").exists()


@pytest.mark.parametrize("place", ["tensor_values", "custom_obj_values"])
def test_a_name_of_a_value_is_a_name(exported: Path, tmp_path: Path, place: str):
    def edit(document: Any) -> None:
        graph = document["graph_module"]["graph"]
        graph[place]["a=b"] = (
            graph["tensor_values"]["x"]
            if place == "tensor_values"
            else {"name": "a", "class_fqn": "b"}
        )

    assert "has the name 'a=b'" in refusal(edited(exported, tmp_path / "model.pt2", edit))


@pytest.mark.parametrize("name", ["aoti_call_delegate", "print", "triton_kernel_wrapper_mutation"])
def test_operators_that_bring_code_or_a_text_of_their_own_are_refused(
    exported: Path, tmp_path: Path, name: str
):
    def edit(document: Any) -> None:
        nodes = document["graph_module"]["graph"]["nodes"]
        nodes[0]["target"] = f"torch.ops.higher_order.{name}"

    assert "which is no operator" in refusal(edited(exported, tmp_path / "model.pt2", edit))


def test_symbols_are_not_counted_up_to_any_number(exported: Path, tmp_path: Path):
    def edit(document: Any) -> None:
        document["range_constraints"]["u9999999999"] = {"min_val": 0, "max_val": 1}

    assert "has a range of 'u9999999999'" in refusal(edited(exported, tmp_path / "model.pt2", edit))


def _parts(members: Mapping[str, bytes]) -> tuple[bytes, bytes]:
    """An archive's content, and its directory."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as target:
        for name, content in members.items():
            target.writestr(name, content)
    return archive.getvalue()[: target.start_dir], archive.getvalue()[target.start_dir : -22]


def _moved(directory: bytes, by: int) -> bytes:
    """The directory of an archive with so many bytes before it."""
    moved, place = bytearray(directory), 0
    while place < len(moved):
        lengths = struct.unpack_from("<HHH", moved, place + 28)
        (offset,) = struct.unpack_from("<I", moved, place + 42)
        struct.pack_into("<I", moved, place + 42, offset + by)
        place += 46 + sum(lengths)
    return bytes(moved)


def _end(directory: bytes, count: int, offset: int) -> bytes:
    sizes = (44, 45, 45, 0, 0, count, count, len(directory), offset)
    return directory + struct.pack("<IQHHIIQQQQ", 0x06064B50, *sizes)


def test_an_archive_that_two_readers_see_differently_is_not_unpickled(
    exported: Path, tmp_path: Path
):
    """Where the newer form can not be read, the older one, made of pickles, is not tried."""
    trace, bomb = tmp_path / "ran", io.BytesIO()
    torch.save({"a": Bomb(trace)}, bomb)
    with zipfile.ZipFile(exported) as whole:
        shown = {name: whole.read(name) for name in whole.namelist()}
    (program,) = (name for name in shown if name.endswith(PROGRAM))
    document = json.loads(shown[program])
    version = document["schema_version"]
    hidden = {
        f"a/{PROGRAM}": b"{}",
        "version": f"{version['major']}.{version['minor']}".encode(),
        "serialized_exported_program.json": shown[program],
        "serialized_state_dict.pt": bomb.getvalue(),
        "serialized_constants.pt": bomb.getvalue(),
        "serialized_example_inputs.pt": bomb.getvalue(),
    }
    shown[program] = json.dumps(document | {"schema_version": {"major": 99, "minor": 0}}).encode()
    (first, hidden_directory), (second, shown_directory) = _parts(hidden), _parts(shown)
    content = first + second
    ends = _end(_moved(shown_directory, len(first)), len(shown), len(content))
    place_of_end = len(content) + len(shown_directory)
    content += ends
    content += _end(hidden_directory, len(hidden), len(content))
    content += struct.pack("<IIQI", 0x07064B50, 0, place_of_end, 1)
    content += struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, *[0xFFFF] * 2, *[0xFFFFFFFF] * 2, 0)
    (tmp_path / "model.pt2").write_bytes(content)
    assert "schema version" in refusal(tmp_path / "model.pt2")
    assert not trace.exists()


def _packed(source: Path, target: Path, **more: bytes) -> Path:
    """The archive again, compressed, with ``more``."""
    with (
        zipfile.ZipFile(source) as old,
        zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
        root = old.namelist()[0].partition("/")[0]
        for name, content in more.items():
            new.writestr(f"{root}/{name.replace('__', '/')}", content)
    return target


def test_an_archive_that_is_larger_unpacked_than_packed_is_refused(exported: Path, tmp_path: Path):
    file = _packed(exported, tmp_path / "model.pt2", extra__x=bytes(2_000_000))
    assert "the archive would be unpacked to 20" in refusal(file)


def test_example_inputs_that_are_larger_unpacked_are_refused(exported: Path, tmp_path: Path):
    (tmp_path / "1").mkdir()
    torch.save({"x": torch.zeros(500_000)}, tmp_path / "inputs")
    bomb = _packed(tmp_path / "inputs", tmp_path / "bomb").read_bytes()
    file = changed(
        exported,
        tmp_path / "1" / "model.pt2",
        lambda name, content: bomb if name.endswith("model.pt") else content,
    )
    assert "has a pickle in 'data/sample_inputs/model.pt'" in refusal(file)


def test_torchscript_may_be_compressed_but_fill_no_memory(tmp_path: Path):
    script = models.script(tmp_path / "script", models.Same())
    file = tmp_path / "model.pt"
    _packed(script, file, extra__x=bytes(2_000_000))
    PyTorchPlatform().load(ServableId("m", 1), str(file))
    _packed(script, file, extra__x=bytes(2**26))
    assert "the archive would be unpacked to 67" in refusal(file)


def test_a_weight_with_a_size_but_no_values_is_refused(exported: Path, tmp_path: Path):
    def change(name: str, content: bytes) -> bytes:
        return b"" if name.endswith("weight_0") else content

    file = changed(exported, tmp_path / "model.pt2", change)
    assert "has a size, but no values" in refusal(file)


def test_guards_of_the_file_are_not_run(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)

    def guard(document: Any) -> None:
        document["guards_code"] = [EVIL]

    edited(exported, tmp_path / "model.pt2", guard)
    PyTorchPlatform().load(ServableId("m", 1), str(tmp_path))
    assert not Path("ran").exists()


def test_a_file_of_the_other_kind_is_named_as_what_it_is(exported: Path, tmp_path: Path):
    script = models.script(tmp_path / "a" / "model.pt", models.Same())
    script.rename(tmp_path / "a" / "model.pt2")
    assert refusal(tmp_path / "a" / "model.pt2") == (
        "model.pt2 is not an exported program, but a TorchScript program"
    )
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model.pt").write_bytes(exported.read_bytes())
    assert refusal(tmp_path / "b" / "model.pt") == (
        "model.pt is not a TorchScript program, but an exported program"
    )


def test_what_is_cut_short_or_empty_is_no_model(exported: Path, tmp_path: Path):
    whole = exported.read_bytes()
    for content in (b"", whole[: len(whole) // 2], whole[:-30]):
        (tmp_path / "model.pt2").write_bytes(content)
        assert refusal(tmp_path / "model.pt2") == (
            "model.pt2 is not an exported program, and no other model of PyTorch's that is whole"
        )
