"""What the tests of the image serve."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from containers import IMAGE, docker, readable
from exported_models import Exported, half_plus_two


@pytest.fixture(scope="session")
def image() -> None:
    """What starts containers needs an engine, and the image that the test is about."""
    if shutil.which("docker") is None or docker("image", "inspect", IMAGE, check=False).returncode:
        pytest.skip(f"no Docker engine with an image {IMAGE}")


@pytest.fixture
def base_path(exported: Exported, tmp_path: Path) -> Path:
    """Of half_plus_two, for the user of a container to read."""
    base = tmp_path / "half_plus_two"
    shutil.copytree(exported(half_plus_two), base / "1")
    return readable(base)


@pytest.fixture
def model(base_path: Path) -> tuple[str, ...]:
    """What brings half_plus_two into a container, as the documentation of upstream's image says."""
    volume = f"{base_path}:/models/half_plus_two:ro"
    return ("--volume", volume, "--env", "MODEL_NAME=half_plus_two")
