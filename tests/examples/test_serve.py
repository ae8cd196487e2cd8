"""scripts/serve, as README.md tells it: what it prints can be copied, and answers."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent

pytestmark = pytest.mark.skipif(
    not any((ROOT / ".venv").glob(".setup-*")),
    reason="scripts/serve would install: `scripts/setup test` makes .venv first",
)


def free_ports() -> tuple[int, int]:
    with socket.socket() as one, socket.socket() as other:
        one.bind(("127.0.0.1", 0))
        other.bind(("127.0.0.1", 0))
        return one.getsockname()[1], other.getsockname()[1]


@pytest.fixture(scope="module")
def calls() -> Iterator[dict[str, str]]:
    """The command lines that the script prints, by ``REST`` and ``gRPC``; ends it with Ctrl-C."""
    grpc_port, rest_port = free_ports()
    command = [ROOT / "scripts" / "serve", f"--port={grpc_port}", "--rest_api_port", str(rest_port)]
    # A group of its own, so that the signal reaches what a terminal's Ctrl-C would.
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as process:
        printed = ""
        try:
            for line in process.stdout:
                printed += line
                if line.startswith(".venv/bin/python"):
                    break
            else:
                pytest.fail(f"scripts/serve ended early:\n{printed}")
            threading.Thread(target=process.stdout.read, daemon=True).start()
            yield dict(re.findall(r"^(REST|gRPC):\n(.+)$", printed, re.MULTILINE))
        finally:
            os.killpg(process.pid, signal.SIGINT)
    assert process.returncode == 0


def output_of(command: str) -> str:
    return subprocess.run(
        shlex.split(command), cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    ).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_curl_line_answers(calls: dict[str, str]):
    assert json.loads(output_of(calls["REST"])) == {"predictions": [2.5, 3.0, 4.5]}


def test_the_python_line_answers(calls: dict[str, str]):
    assert json.loads(output_of(calls["gRPC"])) == [2.5, 3.0, 4.5]
