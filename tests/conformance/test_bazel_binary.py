"""The server that Bazel builds is one that serves.

    scripts/test --slow tests/conformance/test_bazel_binary.py

From Bazel 7 on with the options of BAZEL_OPTIONS, as --config=offline.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from program import program
from stock_clients import WAIT_SECONDS, client_of, spec

ROOT = Path(__file__).parents[2]
BUILD_SECONDS = 900
TARGETS = ("//:model_server", "//examples:half_plus_two_export")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(BUILD_SECONDS),
    pytest.mark.skipif(shutil.which("bazel") is None, reason="there is no bazel"),
]


@pytest.fixture(scope="module")
def binaries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder of what was built, which bazel-bin stands for; the source tree stays as it is."""
    place = tmp_path_factory.mktemp("bazel")
    links = f"{place}/bazel-"
    options = [f"--symlink_prefix={links}", *os.environ.get("BAZEL_OPTIONS", "").split()]
    bazel = ["bazel", f"--output_user_root={place}/root"]
    environment = os.environ | {"MODEL_SERVER_PYTHON": sys.executable}
    try:
        subprocess.run([*bazel, "build", *options, *TARGETS], cwd=ROOT, env=environment, check=True)
        yield Path(f"{links}bin")
    finally:
        subprocess.run([*bazel, "shutdown"], cwd=ROOT, check=True)


def test_it_serves_what_the_example_that_bazel_builds_exports(binaries: Path, tmp_path: Path):
    subprocess.run([binaries / "examples" / "half_plus_two_export", tmp_path], check=True)
    flags = ("--model_name=half_plus_two", f"--model_base_path={tmp_path}")
    with program(*flags, command=[str(binaries / "model_server")]) as server:
        with client_of(server.grpc_port) as client:
            client.await_states({1: ("AVAILABLE", "OK")}, "half_plus_two")
            answer = client.predict(spec("half_plus_two"), x=np.float32([1, 2, 5]))
        assert answer["y"].tolist() == [2.5, 3.0, 4.5]
        url = f"http://127.0.0.1:{server.rest_port}/v1/models/half_plus_two:predict"
        body = json.dumps({"instances": [1.0, 2.0, 5.0]}).encode()
        with urllib.request.urlopen(url, body, timeout=WAIT_SECONDS) as response:
            assert json.load(response) == {"predictions": [2.5, 3.0, 4.5]}
