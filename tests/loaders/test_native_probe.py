"""A file is tried in another process, whose end tells whether it is loaded here."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest

from serving.core.errors import DeadlineExceeded, InvalidArgument
from serving.loaders import native_probe
from serving.loaders.native_options import NativeOptions
from serving.loaders.native_probe import NativeProbe


@pytest.fixture(autouse=True)
def tried_with(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process does what the file says."""
    monkeypatch.setattr(native_probe, "_MODULE", "probed_files")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def check(probe: NativeProbe, folder: Path, wanted: str) -> int:
    """How often the file was tried in all, when it has passed."""
    (folder / "file").write_text(wanted)
    probe.check(str(folder), folder / "file")
    tries = folder / "tries"
    return len(tries.read_text()) if tries.exists() else 0


def test_a_file_that_is_survived_passes_and_is_not_tried_again_until_it_changes(tmp_path: Path):
    probe = NativeProbe("forest")
    assert check(probe, tmp_path, "pass") == 1
    probe.check(str(tmp_path), tmp_path / "file")
    assert (tmp_path / "tries").read_text() == "x"
    assert check(probe, tmp_path, "pass as well") == 2


@pytest.mark.parametrize(
    ("wanted", "how"), [("crash", "was ended by SIGSEGV"), ("end", "ended with exit status 0")]
)
def test_a_file_that_ends_the_process_is_refused_each_time(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, wanted: str, how: str
):
    """Also where it ends as if all were well. What the process said is in the log."""
    probe = NativeProbe("forest")
    for _ in range(2):
        with caplog.at_level(logging.ERROR), pytest.raises(InvalidArgument) as raised:
            check(probe, tmp_path, wanted)
        assert raised.value.message == (
            "file is no whole model of the platform forest: "
            f"the process that tried to load it {how}"
        )
    assert len((tmp_path / "tries").read_text()) == 2
    assert ("about to crash" in caplog.text) == (wanted == "crash")


def test_a_file_that_is_read_for_ever_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native_probe, "_SECONDS", 0.5)
    with pytest.raises(DeadlineExceeded) as raised:
        check(NativeProbe("forest"), tmp_path, "hang")
    assert re.match(r"file took the platform forest longer than 0\.5\d* sec", raised.value.message)
    assert "--probe_native_models=false does without" in raised.value.message


def test_nothing_is_tried_where_that_is_switched_off(tmp_path: Path):
    assert check(NativeProbe("forest", NativeOptions(probe=False)), tmp_path, "crash") == 0
