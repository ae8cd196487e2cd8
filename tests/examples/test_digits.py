"""The digits example as its README tells it: export, serve, ask. Every part is a real process."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
EXAMPLE = ROOT / "examples" / "digits"


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, check=False, timeout=100
    )


@contextmanager
def server(model_name: str, base_path: Path) -> Iterator[str]:
    """A server process; yields the address it listens on."""
    command = [
        *(sys.executable, ROOT / "server.py", "--grpc_bind_address=127.0.0.1:0"),
        *(f"--model_name={model_name}", f"--model_base_path={base_path}"),
    ]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        seen = []
        try:
            for line in process.stderr:
                seen.append(line)
                if found := re.search(r"Running gRPC ModelServer at (127\.0\.0\.1:\d+)", line):
                    break
            else:
                pytest.fail(f"the server ended before it listened:\n{''.join(seen)}")
            # What it writes from now on is read too: a full pipe would hold it up.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            yield found[1]
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two versions, the second with more training."""
    base_path = tmp_path_factory.mktemp("models") / "digits"
    for version, iterations in ((1, 100), (2, 300)):
        export = run(
            EXAMPLE / "export.py",
            f"--export_version={version}",
            f"--training_iteration={iterations}",
            base_path,
        )
        assert export.returncode == 0, export.stderr
        assert re.fullmatch(
            rf"exported {base_path}/{version}; error rate on held-out digits: \d+\.\d%\n",
            export.stdout,
        )
    return base_path


def test_a_version_is_never_exported_over(exported: Path):
    again = run(EXAMPLE / "export.py", "--export_version=2", exported)
    assert again.returncode == 1
    assert "exists already" in again.stderr
    assert sorted(path.name for path in exported.iterdir()) == ["1", "2"]


def test_the_client_measures_an_error_rate_below_ten_percent(exported: Path):
    with server("digits", exported) as address:
        client = run(
            EXAMPLE / "client.py", f"--server={address}", "--num_tests=200", "--concurrency=8"
        )
    assert client.returncode == 0, client.stderr
    dots, result = client.stdout.splitlines()
    assert dots == "." * 200
    assert float(re.fullmatch(r"Inference error rate: ([\d.]+)%", result)[1]) < 10


def test_the_client_says_so_when_calls_fail():
    client = run(EXAMPLE / "client.py", "--server=127.0.0.1:1", "--num_tests=2")
    assert client.returncode == 1
    assert "2 of 2 calls failed" in client.stderr
    assert "UNAVAILABLE" in client.stderr
    assert "Inference error rate" not in client.stdout
