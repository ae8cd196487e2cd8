"""The load balancers of deploy/load_balancer: their programs, and their files for other ports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

DIRECTORY = Path(__file__).parents[1] / "deploy" / "load_balancer"
HOSTS = ("10.0.0.11", "10.0.0.12", "10.0.0.13")
"""Where the files say that the servers are."""

_NGINX_TEMP = "".join(
    f"{kind}_temp_path {{place}}/{kind}; "
    for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
)


class Ports(NamedTuple):
    """Of a server, or of a balancer."""

    grpc: int
    rest: int


USUAL = Ports(8500, 8501)


@dataclass(frozen=True, slots=True)
class LoadBalancer:
    """A program, its file, and how that writes things.

    ``server`` is how the file writes the address of a server, ``listener`` a port of its own, and
    ``loopback`` how it would write one that nobody else can reach. ``elsewhere`` are pairs of what
    else to replace, so that it can run beside others. ``check`` and ``run`` are arguments.
    """

    name: str
    file: str
    server: str
    listener: str
    loopback: str
    check: tuple[str, ...]
    run: tuple[str, ...]
    elsewhere: tuple[tuple[str, str], ...] = ()

    @property
    def variable(self) -> str:
        """The environment variable that names the program where it is not on the PATH."""
        return f"MODEL_SERVER_TEST_{self.name.upper()}"

    @property
    def program(self) -> str | None:
        """None where it is not installed."""
        return shutil.which(os.environ.get(self.variable, self.name))

    @property
    def shipped(self) -> str:
        """The file as it is."""
        return (DIRECTORY / self.file).read_text()

    def adapted(self, own: Ports, servers: Sequence[Ports], place: Path) -> Path:
        """The file with these ports on the loopback interface, and nothing else changed."""
        text = self.shipped
        for old, new in self.elsewhere:
            text = _replaced(text, old, new.format(place=place))
        for usual, port in zip(USUAL, own, strict=True):
            old = self.listener.format(port=usual)
            text = _replaced(text, old, self.loopback.format(port=port))
        for host, ports in zip(HOSTS, servers, strict=True):
            for usual, port in zip(USUAL, ports, strict=True):
                old = self.server.format(host=host, port=usual)
                text = _replaced(text, old, self.server.format(host="127.0.0.1", port=port))
        adapted = place / self.file
        adapted.write_text(text)
        return adapted

    def command(self, arguments: Sequence[str], file: Path) -> list[str]:
        """To check ``file``, or run with it, in the foreground."""
        assert self.program
        return [self.program, *(each.format(file=file, place=file.parent) for each in arguments)]


def _replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, old
    return text.replace(old, new)


ENVOY = LoadBalancer(
    "envoy",
    "envoy.yaml",
    server="{{address: {host}, port_value: {port}}}",
    listener="{{address: 0.0.0.0, port_value: {port}}}",
    loopback="{{address: 127.0.0.1, port_value: {port}}}",
    check=("--mode", "validate", "-c", "{file}"),
    run=("--disable-hot-restart", "--concurrency", "2", "--log-level", "warn", "-c", "{file}"),
    elsewhere=(("port_value: 9901", "port_value: 0"),),
)
NGINX = LoadBalancer(
    "nginx",
    "nginx.conf",
    server="server {host}:{port}",
    listener="listen {port}",
    loopback="listen 127.0.0.1:{port}",
    check=("-t", "-g", "pid {place}/nginx.pid;", "-c", "{file}"),
    # Where root runs tests, another user may not write to their directories.
    run=("-g", "user root; daemon off; pid {place}/nginx.pid; error_log stderr;", "-c", "{file}"),
    elsewhere=(("http {\n", f"http {{{{ {_NGINX_TEMP}\n"),),
)
HAPROXY = LoadBalancer(
    "haproxy",
    "haproxy.cfg",
    server="{host}:{port}",
    listener="bind :{port}",
    loopback="bind 127.0.0.1:{port}",
    check=("-c", "-f", "{file}"),
    run=("-db", "-f", "{file}"),
)
LOAD_BALANCERS = (ENVOY, NGINX, HAPROXY)
