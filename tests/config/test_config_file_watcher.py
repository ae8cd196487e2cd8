"""A config file is applied when it says something new and stands still, and never half-written."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from serving.config.command_line import parse_command_line
from serving.config.file_watcher import FileWatcher
from serving.config.model_config import configured_models
from serving.config.options import server_options
from serving.core.errors import FailedPrecondition, ServingError
from serving.core.model_config import ModelConfig
from serving.testing import FakeClock


class ImpatientClock(FakeClock):
    """Waits for no time at all; what happens during a wait is done then."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: list[tuple[Path, bytes]] = []

    def wait(self, event: threading.Event, timeout_seconds: float | None) -> bool:
        if self.meanwhile:
            path, text = self.meanwhile.pop(0)
            path.write_bytes(text)
        return event.is_set()


class Watched:
    """A watcher of a real file, with all that it applied."""

    def __init__(self, path: Path, models: dict[str, str]) -> None:
        self.path = path
        self.clock = ImpatientClock()
        self.refusal: ServingError | None = None
        self.applied: list[list[str]] = []
        self._in_force: Sequence[ModelConfig] = []
        flags = parse_command_line([f"--model_config_file={path}"])
        options = dataclasses.replace(server_options(flags), model_config_file=str(path))
        self.watcher = FileWatcher(
            "model config file",
            lambda: configured_models(options),
            self._apply,
            in_force=lambda: self._in_force,
            interval_seconds=1,
            clock=self.clock,
        )
        path.write_bytes(document(models))
        self.watcher.look()
        self.applied.clear()

    def say(self, text: bytes) -> None:
        self.path.write_bytes(text)
        self.watcher.look()

    def _apply(self, configs: Sequence[ModelConfig]) -> None:
        if self.refusal:
            raise self.refusal
        self._in_force = configs
        self.applied.append([config.name for config in configs])


def document(models: dict[str, str]) -> bytes:
    """As JSON, which is YAML too."""
    listed = [{"name": name, "base_path": path} for name, path in models.items()]
    return json.dumps({"model_config_list": listed}).encode()


ONE, TWO = {"a": "/a"}, {"a": "/a", "b": "/b"}


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path / "models.yaml", ONE)


def test_a_file_that_says_what_is_in_force_is_not_applied_again(watched: Watched) -> None:
    watched.watcher.look()
    watched.say(document(ONE) + b"\n# another comment\n")
    assert watched.applied == []


def test_a_file_that_says_something_new_is_applied_once(watched: Watched) -> None:
    watched.say(document(TWO))
    watched.watcher.look()
    assert watched.applied == [["a", "b"]]


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"\x00\xff\xfe\x80",
        b"model_config_list: [",
        b'{"model_config_list": [{"name": ',
        b"no: list",
        document(TWO)[:-3],
    ],
    ids=["empty", "binary", "half YAML", "half JSON", "no list", "cut off"],
)
def test_a_bad_file_changes_nothing_and_the_next_good_one_is_applied(
    watched: Watched, bad: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        watched.say(bad)
        watched.watcher.look()
    assert watched.applied == []
    assert caplog.text.count("the model config file was not applied: INVALID_ARGUMENT") == 1
    watched.say(document(TWO))
    assert watched.applied == [["a", "b"]]


def test_a_file_that_is_gone_changes_nothing(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.path.unlink()
    watched.watcher.look()
    assert watched.applied == []
    assert "NOT_FOUND" in caplog.text


def test_half_of_a_list_is_not_taken_for_the_whole(tmp_path: Path) -> None:
    """Cut after its first model, a YAML list is as good a list as ever."""
    watched = Watched(tmp_path / "models.yaml", TWO)
    half = b"model_config_list:\n- {name: a, base_path: /a}\n"
    whole = half + b"- {name: b, base_path: /b}\n- {name: c, base_path: /c}\n"
    watched.clock.meanwhile = [(watched.path, whole)]
    watched.say(half)
    assert watched.applied == [["a", "b", "c"]]


def test_a_file_replaced_by_a_bad_one_while_it_is_read_changes_nothing(watched: Watched) -> None:
    watched.clock.meanwhile = [(watched.path, b"broken: [")]
    watched.say(document(TWO))
    assert watched.applied == []


def test_what_was_refused_is_tried_again_and_logged_once(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    watched.refusal = FailedPrecondition("the label's version is not available")
    watched.say(document(TWO))
    watched.watcher.look()
    assert caplog.text.count("FAILED_PRECONDITION: the label's version") == 1
    watched.refusal = None
    watched.watcher.look()
    assert watched.applied == [["a", "b"]]


def test_nothing_is_applied_once_it_was_stopped(watched: Watched) -> None:
    watched.watcher.stop()
    watched.say(document(TWO))
    assert watched.applied == []
