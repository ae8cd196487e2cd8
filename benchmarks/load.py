"""Load generators: h2load and real clients for gRPC, wrk for REST; what each has seen."""

from __future__ import annotations

import json
import math
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
_NUM_CLIENT_PROCESSES = 4
_PACKAGES = {"h2load": "nghttp2-client", "wrk": "wrk"}
_GRPC_PREFIX_BYTES = 5


@dataclass(frozen=True, slots=True)
class Connections:
    """How many connections there are, and how many requests each has in flight."""

    count: int
    streams: int = 1

    @classmethod
    def parse(cls, text: str) -> Connections:
        """From ``64`` or ``8x8``."""
        return cls(*map(int, text.split("x")))

    def __str__(self) -> str:
        return f"{self.count}x{self.streams}" if self.streams > 1 else str(self.count)


@dataclass(frozen=True, slots=True)
class Load:
    """What a generator has seen: complete answers, the time it took, latencies in µs.

    ``busy`` is the share of one processor that the generator itself has used. ``rejected`` and
    ``missed`` are further requests, which the server refused or did not answer by their deadline.
    ``late``: the generator could not send when it should have. ``rows_per_batch``: as the server
    tells, where it is asked and has made batches.
    """

    requests: int
    seconds: float
    p50_us: float
    p99_us: float
    busy: float
    rejected: int = 0
    missed: int = 0
    late: bool = False
    rows_per_batch: float | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what they are. ``response_bytes``: the length of every answer."""

    port: int
    path: str
    body: bytes
    response_bytes: int = 0


def h2load(target: Target, connections: Connections, seconds: float) -> Load:
    """The same unary gRPC call over and over, by the C++ client of nghttp2.

    Raises RuntimeError where a call fails or an answer has another length: h2load does not look at
    grpc-status, but what is no success has no message.
    """
    with tempfile.TemporaryDirectory() as directory:
        body, log = Path(directory) / "body", Path(directory) / "log"
        body.write_bytes(b"\0" + len(target.body).to_bytes(4, "big") + target.body)
        text, busy = _run(
            *("h2load", "-t1", f"-c{connections.count}", f"-m{connections.streams}"),
            *(f"-D{round(seconds * 1000)}ms", f"--log-file={log}", f"-d{body}"),
            *("-H", "content-type: application/grpc", "-H", "te: trailers"),
            f"http://127.0.0.1:{target.port}{target.path}",
        )
        latencies = [int(line.split()[2]) for line in log.read_text().splitlines()]
    counts = {name: int(count) for count, name in re.findall(r"(\d+) ([a-z0-9]+)", text)}
    bytes_of_data = int(re.search(r"\((\d+)\) data", text)[1])
    _check_h2load(target, connections, counts, bytes_of_data, text)
    return _load(latencies, seconds, busy)


def _check_h2load(
    target: Target, connections: Connections, counts: dict[str, int], data: int, text: str
) -> None:
    """Calls that the end has interrupted may have had a part of their answer."""
    length = _GRPC_PREFIX_BYTES + target.response_bytes
    interrupted = data - counts["succeeded"] * length
    if (
        counts["failed"]
        or counts["errored"]
        or not 0 <= interrupted <= connections.count * connections.streams * length
    ):
        raise RuntimeError(f"answers should have {length} bytes of data each:\n{text}")


def grpc_clients(target: Target, connections: Connections, seconds: float) -> Load:
    """Processes with grpcio's channels, a deadline of its own on every call.

    Each connection makes one call after the other on each of its streams.
    """
    processes = min(_NUM_CLIENT_PROCESSES, connections.count)
    shares = [len(range(index, connections.count, processes)) for index in range(processes)]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(_client(target, share, connections.streams, seconds))
            for share in shares
        ]
        for client in clients:
            client.stdout.readline()  # it is ready
        for client in clients:
            client.stdin.write(target.body)
            client.stdin.close()
        texts = [client.stdout.read() for client in clients]
    if any(client.returncode for client in clients):
        raise RuntimeError("a client has failed")
    answers = [json.loads(text) for text in texts]
    busy = sum(answer["cpu_seconds"] for answer in answers) / seconds
    if any(answer["lengths"] != [target.response_bytes] for answer in answers):
        raise RuntimeError(f"answers should have {target.response_bytes} bytes each")
    return _load([one for answer in answers for one in answer["latencies_us"]], seconds, busy)


def _client(target: Target, count: int, streams: int, seconds: float) -> subprocess.Popen[bytes]:
    address = f"127.0.0.1:{target.port}"
    shape = (str(count), str(streams), str(seconds))
    command = (sys.executable, str(HERE / "grpc_client.py"), address, target.path, *shape)
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def wrk(target: Target, connections: Connections, seconds: float) -> Load:
    """The same POST over and over; whole seconds. Raises RuntimeError where a request fails."""
    whole = max(1, round(seconds))
    with tempfile.NamedTemporaryFile() as body:
        body.write(target.body)
        body.flush()
        text, busy = _run(
            *("wrk", "-t1", f"-c{connections.count}", f"-d{whole}s", "--timeout=30s"),
            *("-s", str(HERE / "wrk_post.lua"), f"http://127.0.0.1:{target.port}{target.path}"),
            *("--", body.name),
        )
    seen = json.loads(text.splitlines()[-1])
    if seen["errors"]:
        raise RuntimeError(f"requests failed:\n{text}")
    return Load(seen["requests"], seen["seconds"], seen["p50_us"], seen["p99_us"], busy)


def require(program: str) -> None:
    """Exit, naming the command that installs it, where a load generator is missing."""
    if shutil.which(program) is None:
        raise SystemExit(f"{program} is missing; install it: apt install {_PACKAGES[program]}")


def _run(*command: str) -> tuple[str, float]:
    """What a generator prints, and the share of a processor that it used."""
    started, used = time.perf_counter(), _seconds_of_children()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{result.stdout}{result.stderr}")
    busy = (_seconds_of_children() - used) / (time.perf_counter() - started)
    return result.stdout, busy


def _seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def percentiles(latencies_us: Sequence[float]) -> tuple[float, float]:
    """The median and the 99th percentile; NaN where there are too few."""
    if len(latencies_us) < 2:
        return math.nan, math.nan
    points = statistics.quantiles(latencies_us, n=100)
    return points[49], points[98]


def _load(latencies_us: Sequence[float], seconds: float, busy: float) -> Load:
    return Load(len(latencies_us), seconds, *percentiles(latencies_us), busy)
