"""Files that are not what they are called, or would run code of their own, are refused unread."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable
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
