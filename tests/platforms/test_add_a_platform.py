"""The page about adding a platform, followed word for word."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from platform_page import PAGE, blocks, expected_output, write
from platform_tests import PlatformCase

from serving.core.servable import run_and_wait
from serving.testing import running_server


def install(project: Path, site: Path) -> None:
    """As ``pip install .`` has it done, with the setuptools that there is and from no index."""
    if importlib.util.find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed")
    steps = ["install_lib", f"--install-dir={site}", "install_egg_info", f"--install-dir={site}"]
    command = [sys.executable, "-c", "import setuptools; setuptools.setup()", *steps]
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with all that the page shows, which was installed with them in it."""
    files, _ = blocks()
    folder = tmp_path_factory.mktemp("page")
    write(files, folder)
    site = tmp_path_factory.mktemp("site")
    install(folder, site)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield folder
    sys.modules.pop("polynomial_platform", None)


def test_the_page_makes_a_platform_that_answers(page: Path, capsys: pytest.CaptureFixture[str]):
    _, asks = blocks()
    config = page / "models.config"
    config.write_text(config.read_text().replace("/srv/models", str(page / "models")))
    with running_server(f"--model_config_file={config}") as server:
        program = asks.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}")
        exec(compile(program, PAGE.name, "exec"), {})
    assert capsys.readouterr().out.strip() == expected_output()


def test_cases_of_a_platform_that_is_installed_are_loaded(page: Path):
    case = PlatformCase("square", "polynomial", "model.poly", lambda _: {}, {}, detected=False)
    servable = case.load(page / "models/square/1")
    (output,) = run_and_wait(servable, {"x": np.array([1.0, 2.0])}, ["y"])
    assert output.tolist() == [1.5, 4.5]
    servable.close()
