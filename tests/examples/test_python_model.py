"""The example of a Python class: the commands of its README, in their order."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from waiting import WAIT_SECONDS

from serving.testing import running_server

ROOT = Path(__file__).parent.parent.parent
README = ROOT / "examples" / "python_model" / "README.md"

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


def blocks() -> list[str]:
    """Those that make the model, that serve it, and that ask."""
    return re.findall(r"```console\n(.*?)```", README.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def rest_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Of a server started as the README says, in this process and on any ports."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "examples").symlink_to(ROOT / "examples")
    make, serve, _ = blocks()
    subprocess.run(["bash", "-ec", make], cwd=folder, check=True, timeout=WAIT_SECONDS)
    program, *flags = shlex.split(serve)
    assert program == ".venv/bin/model_server"
    others = [flag for flag in flags if "port=" not in flag]
    assert len(flags) == len(others) + 2
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        with running_server(*others) as server:
            assert server.rest_port is not None
            yield server.rest_port


def test_the_curl_line_answers_each_row(rest_port: int):
    (asks,) = blocks()[2].splitlines()
    command = shlex.split(asks.replace("localhost:8501", f"127.0.0.1:{rest_port}"))
    done = subprocess.run(
        [*command, "--silent"], check=True, capture_output=True, timeout=WAIT_SECONDS
    )
    answers = json.loads(done.stdout)["predictions"]
    assert [answer["word"] for answer in answers] == ["apple", "raspberry"]
    assert '"word": "apple"' in README.read_text()
    assert all(0.5 < answer["likeness"] < 1 for answer in answers)
