"""Platforms of other distributions are found by their entry points and imported when used."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from serving.config.installed_platforms import installed_platforms
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.loaders.platforms import AddedPlatform, Platforms


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that Python finds distributions and modules in."""
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def install(site: Path, distribution: str, *points: str) -> None:
    folder = site / f"{distribution}-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    lines = "".join(f"{point}\n" for point in points)
    (folder / "entry_points.txt").write_text(f"[model_server.platforms]\n{lines}")


def test_nothing_is_imported_before_a_model_needs_it(site: Path):
    install(site, "maker", "first = made_up_module:First", "second = made_up_module:Second")
    assert installed_platforms() == {
        "first": AddedPlatform("made_up_module:First", distribution="maker"),
        "second": AddedPlatform("made_up_module:Second", distribution="maker"),
    }
    assert "made_up_module" not in sys.modules


def test_a_name_of_the_servers_own_is_refused(site: Path):
    install(site, "maker", "onnx = made_up_module:Onnx")
    with pytest.raises(InvalidArgument) as raised:
        installed_platforms()
    assert raised.value.message == ("platform 'onnx' of the distribution maker is the server's own")


def test_a_name_that_two_distributions_have_is_refused_with_both(site: Path):
    install(site, "maker", "first = made_up_module:First")
    install(site, "rival", "first = another_module:First")
    with pytest.raises(InvalidArgument) as raised:
        installed_platforms()
    text = raised.value.message
    assert text.startswith("platform 'first' is in the distributions ")
    assert {"maker", "rival"} <= set(text.split())


@pytest.mark.parametrize(
    ("module", "point", "message"),
    [
        (None, "broken_platform:P", "platform 'p' needs broken_platform, which is not installed"),
        (
            "import no_such_library",
            "broken_platform:P",
            "platform 'p' needs no_such_library, which",
        ),
        ("", "broken_platform:P", "platform 'p' of the distribution maker: module"),
        ("P = 1 / 0", "broken_platform:P", "ZeroDivisionError, which the log shows"),
        ("def P(): raise KeyError", "broken_platform:P", "KeyError, which the log shows"),
        ("P =", "broken_platform:P", "SyntaxError, which the log shows"),
        ("", "broken_platform", "platform 'p' of the distribution maker: module"),
    ],
)
def test_a_broken_one_is_one_clear_error_when_it_is_used(
    site: Path, module: str | None, point: str, message: str
):
    install(site, "maker", f"p = {point}")
    if module is not None:
        (site / "broken_platform.py").write_text(module)
    platforms = Platforms({}, added=installed_platforms())
    try:
        with pytest.raises(FailedPrecondition) as raised:
            platforms.get("p")
    finally:
        sys.modules.pop("broken_platform", None)
    assert message in raised.value.message
    assert str(site) not in raised.value.message
