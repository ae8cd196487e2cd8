"""Containers of the image: how tests start them, ask them and see how they end."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from waiting import START_SECONDS, await_

IMAGE = os.environ.get("MODEL_SERVER_IMAGE", "model-server")

_POST = """
import sys, urllib.error, urllib.request
try:
    answer = urllib.request.urlopen(sys.argv[1], sys.argv[2].encode())
except urllib.error.HTTPError as error:
    answer = error
except OSError as error:
    sys.exit(str(error))
print(answer.read().decode())
"""


def docker(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = ["docker", *arguments]
    return subprocess.run(command, check=check, capture_output=True, text=True)


def readable(directory: Path) -> Path:
    """The directory, with all that is in it for everybody to read, as the image's user has to."""
    for path in (directory, *directory.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return directory


class Container:
    """A container by its id."""

    def __init__(self, id_: str) -> None:
        self.id = id_

    def state(self, field: str) -> str:
        return docker("inspect", f"--format={{{{.State.{field}}}}}", self.id).stdout.strip()

    def output(self) -> str:
        """What it has written to standard output."""
        return docker("logs", self.id).stdout

    def logs(self) -> str:
        shown = docker("logs", self.id)
        return shown.stdout + shown.stderr

    def python(self, program: str, *arguments: str, check: bool = True) -> str:
        """What a program in the container prints; of one that fails, nothing where that is fine."""
        command = ("exec", self.id, "python", "-c", program, *arguments)
        return docker(*command, check=check).stdout.strip()

    def predict(self, model: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer over REST; an empty one where the connection ends without any."""
        url = f"http://localhost:8501/v1/models/{model}:predict"
        return json.loads(self.python(_POST, url, json.dumps(body), check=False) or "{}")

    def await_ready(self) -> None:
        probe = "import urllib.request as u; u.urlopen('http://localhost:8501/healthz/ready')"
        await_(
            lambda: not docker("exec", self.id, "python", "-c", probe, check=False).returncode,
            self.logs,
            START_SECONDS,
        )

    def await_log(self, words: str) -> None:
        await_(lambda: words in self.logs(), lambda: f"{words} in {self.logs()}", START_SECONDS)

    def await_end(self) -> int:
        await_(lambda: self.state("Status") == "exited", self.logs, START_SECONDS)
        return int(self.state("ExitCode"))

    def stop(self) -> int:
        """Its exit status, after a signal and the time to drain."""
        docker("stop", "--time=60", self.id)
        return int(self.state("ExitCode"))


@contextmanager
def running(
    *arguments: str, flags: tuple[str, ...] = (), network: str = "none", image: str = IMAGE
) -> Iterator[Container]:
    """A container with a network of its own, with nobody else, where no other is named."""
    started = docker("run", "--detach", f"--network={network}", *arguments, image, *flags)
    container = Container(started.stdout.strip())
    try:
        yield container
    finally:
        docker("rm", "--force", container.id)
