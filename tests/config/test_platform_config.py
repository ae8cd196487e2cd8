"""Platforms that a file adds, and a server that serves one of them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from serving.config.platform_config import read_platforms
from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving.core.models import ModelSpec
from serving.core.servable import run_and_wait
from serving.loaders.platforms import AddedPlatform, Platforms
from serving.testing import running_server

MODULE = """
from serving.core.resources import ResourceAllocation
from serving.testing import FakeServable


class Times:
    def __init__(self, options):
        self._factor = options["factor"]

    def estimate(self, path):
        return ResourceAllocation()

    def load(self, servable_id, path, device=None):
        return FakeServable(lambda feeds: {"y:0": feeds["x:0"] * self._factor})
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "platforms.yaml"


def refusal(file: Path, text: str) -> str:
    file.write_text(text)
    with pytest.raises(InvalidArgument) as raised:
        read_platforms(str(file))
    return raised.value.message


def test_without_a_file_no_platform_is_added():
    assert read_platforms("") == {}


def test_a_missing_file_is_not_found(file: Path):
    with pytest.raises(NotFound):
        read_platforms(str(file))


def test_yaml_and_json_say_the_same(file: Path):
    file.write_text("platforms:\n  a: {class: m.n:C}\n  b: {class: m:C, options: {k: [1]}}\n")
    expected = {"a": AddedPlatform("m.n:C"), "b": AddedPlatform("m:C", {"k": [1]})}
    assert read_platforms(str(file)) == expected
    other = file.with_name("platforms.config")
    document = {"a": {"class": "m.n:C"}, "b": {"class": "m:C", "options": {"k": [1]}}}
    other.write_text(json.dumps({"platforms": document}))
    assert read_platforms(str(other)) == expected


def test_a_file_of_tensorflow_serving_is_refused_with_what_to_do(file: Path):
    upstream = file.with_name("platforms.config")
    text = 'platform_configs { key: "tensorflow" value { } }'
    assert refusal(upstream, text) == (
        f"'{upstream}' is neither JSON nor, by its name, YAML; a PlatformConfigMap of TensorFlow "
        "Serving is not read: what it sets has flags"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must hold a mapping called platforms, and nothing else"),
        ("[1]", "must hold a mapping called platforms, and nothing else"),
        ("platforms: 1", "must hold a mapping called platforms, and nothing else"),
        ("{platforms: {}, more: 1}", "must hold a mapping called platforms, and nothing else"),
        ("platforms: {onnx: {class: m:C}}", ": platform 'onnx' is the server's own"),
        ("platforms: {a: m:C}", ": platform 'a' must be a mapping of class and maybe options"),
        ("platforms: {a: {clas: m:C}}", ": platform 'a' must be a mapping of class and maybe"),
        ("platforms: {a: {}}", ": platform 'a': class must be module:Class, not None"),
        ("platforms: {a: {class: m}}", ": platform 'a': class must be module:Class, not 'm'"),
        (
            "platforms: {a: {class: m:C, options: 1}}",
            ": platform 'a': options must be a mapping, not 1",
        ),
    ],
)
def test_a_file_that_says_anything_else_is_refused(file: Path, text: str, message: str):
    found = refusal(file, text)
    assert found.startswith(f"'{file}'")
    assert message in found


def test_a_class_that_there_is_not_is_an_error_of_its_platform():
    added = {"a": AddedPlatform("no_such_package.m:C"), "b": AddedPlatform("json:NoSuchClass")}
    platforms = Platforms({}, added=added)
    assert {"a", "b", "onnx"} <= set(platforms)
    with pytest.raises(FailedPrecondition) as raised:
        platforms.get("a")
    assert raised.value.message == ("platform 'a' needs no_such_package, which is not installed")
    with pytest.raises(FailedPrecondition, match="'json' has no attribute 'NoSuchClass'"):
        platforms.get("b")


def test_models_of_an_added_platform_are_served(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its module is imported from the program's path when the first model is loaded."""
    (tmp_path / "times_platform.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    file.write_text("platforms: {times: {class: times_platform:Times, options: {factor: 3}}}")
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "any").touch()
    config = tmp_path / "models.yaml"
    config.write_text(f"model_config_list: [{{name: m, base_path: {tmp_path}/m, platform: times}}]")
    flags = (f"--platform_config_file={file}", f"--model_config_file={config}")
    with running_server(*flags, "--version_settle_seconds=0") as server:
        leased: list = []
        server.core.lease(ModelSpec("m"), None, leased.append)
        (y,) = run_and_wait(leased[0].servable, {"x:0": np.float32([2])}, ["y:0"])
        assert y.tolist() == [6]
        leased[0].release()
    del sys.modules["times_platform"]
