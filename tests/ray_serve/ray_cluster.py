"""A Ray cluster of one machine, by Ray's own commands; needs the environment of `ray[serve]`."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from waiting import START_SECONDS, await_

ROOT = Path(__file__).parents[2]
SERVE_CONFIG = ROOT / "deploy" / "ray_serve" / "serve_config.yaml"
APPLICATION = "model_server"
_MARK = "MODEL_SERVER_TEST_CLUSTER"
_STARTS = 4
_OBJECT_STORE_BYTES = 80 * 2**20  # nearly the least that Ray takes


class RayCluster:
    """A head node that ends with :meth:`stop`, and nothing of it is left then."""

    def __init__(self) -> None:
        self._mark = secrets.token_hex(16)
        # Ray's sockets lie in there, whose paths may not be long.
        self._directory = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
        self._path = Path(self._directory.name)
        self._log = self._path / "head.log"
        self._token = secrets.token_hex(32)
        self.grpc_port, self.http_port, self._dashboard, *self._other_ports = _free_ports(5)
        self._head: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the head node answers."""
        # Ray gives it half a minute for that, which a busy machine may not have.
        for _ in range(_STARTS):
            self._head = self._new_head()
            await_(lambda: self._has_ended() or self._details(), self._log.read_text, 300)
            if not self._has_ended():
                return
            self._kill()
        raise AssertionError(self._log.read_text())

    def deploy(self, flags: dict[str, object], num_replicas: int) -> None:
        """Have the configuration that ships serve with these flags; returns when it does."""
        config = yaml.safe_load(SERVE_CONFIG.read_text())
        config["proxy_location"] = "HeadOnly"
        config["http_options"] = {"host": "127.0.0.1", "port": self.http_port}
        config["grpc_options"]["port"] = self.grpc_port
        (application,) = config["applications"]
        (deployment,) = application["deployments"]
        application["args"] = flags
        deployment["ray_actor_options"] = {"num_cpus": 0.1}
        deployment["autoscaling_config"] |= {
            "min_replicas": num_replicas,
            "max_replicas": num_replicas,
        }
        file = self._path / "serve_config.yaml"
        file.write_text(yaml.safe_dump(config))
        command = [_program("serve"), "deploy", "-a", self._url(), str(file)]
        subprocess.run(command, env=self._environment(), check=True, capture_output=True)
        await_(
            lambda: self._application().get("status") == "RUNNING",
            lambda: f"a running application, not {self._application()}",
            4 * START_SECONDS,
        )

    def replicas(self) -> set[int]:
        """The processes of the replicas that are running."""
        deployments = self._application().get("deployments", {})
        replicas = deployments["ModelServer"]["replicas"] if deployments else []
        return {replica["pid"] for replica in replicas if replica["state"] == "RUNNING"}

    def processes(self) -> dict[int, str]:
        """All that this cluster consists of: their command lines by process ids."""
        found = {}
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended, or is somebody else's
                if f"{_MARK}={self._mark}".encode() in (directory / "environ").read_bytes():
                    command_line = (directory / "cmdline").read_bytes()
                    found[int(directory.name)] = command_line.replace(b"\0", b" ").decode()
        return found

    def stop(self) -> None:
        """End what Ray started; fails, and kills it, where some of that stays."""
        try:
            if self._head is not None and not self._has_ended():
                self._head.terminate()
                self._head.wait(START_SECONDS)
            await_(lambda: not self.processes(), lambda: f"no process left of {self.processes()}")
        finally:
            self._kill()
            self._directory.cleanup()

    def _has_ended(self) -> bool:
        return self._head.poll() is not None

    def _kill(self) -> None:
        for process in self.processes():
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def _new_head(self) -> subprocess.Popen[bytes]:
        agent_port, client_port = self._other_ports
        with self._log.open("w") as output:
            return subprocess.Popen(
                [
                    *(_program("ray"), "start", "--head", "--block", "--port=0", "--num-cpus=2"),
                    "--node-ip-address=127.0.0.1",
                    f"--temp-dir={self._path}",
                    f"--object-store-memory={_OBJECT_STORE_BYTES}",
                    f"--dashboard-port={self._dashboard}",
                    f"--dashboard-agent-listen-port={agent_port}",
                    f"--ray-client-server-port={client_port}",
                    "--disable-usage-stats",
                    "--include-log-monitor=false",
                ],
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def _environment(self) -> dict[str, str]:
        own = {
            _MARK: self._mark,
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": self._token,
        }
        return {**os.environ, **own}

    def _url(self) -> str:
        return f"http://127.0.0.1:{self._dashboard}"

    def _application(self) -> dict[str, Any]:
        return self._details().get("applications", {}).get(APPLICATION, {})

    def _details(self) -> dict[str, Any]:
        """What Ray Serve tells of itself; empty while nobody answers."""
        request = urllib.request.Request(f"{self._url()}/api/serve/applications/")
        request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with urllib.request.urlopen(request, timeout=START_SECONDS) as answer:
                return json.load(answer)
        except OSError:
            return {}


def _program(name: str) -> str:
    return str(Path(sys.executable).with_name(name))


def _free_ports(number: int) -> list[int]:
    """Ports that nobody has now; above those of Ray's workers, which begin at 10002."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [listener.getsockname()[1] for listener in sockets]
    for listener in sockets:
        listener.close()
    return ports
