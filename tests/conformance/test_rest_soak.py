"""Bodies that are large, slow, cut short or not what they seem to be, all at once: the program
answers others meanwhile, blames nobody but the client, and its memory comes back.

``SOAK_MEGABYTES`` in the environment says how large the largest bodies are.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import os
import re
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from http.client import HTTPConnection
from pathlib import Path

import numpy as np
import pytest
from exported_models import Exported, half_plus_two
from program import RunningProgram, program

log = logging.getLogger(__name__)

MEGABYTES = int(os.environ.get("SOAK_MEGABYTES", "100"))
LARGE = MEGABYTES * 10**6
TOTAL = 3 * LARGE
TARGET = "/v1/models/m:predict"
HEAD = f"POST {TARGET} HTTP/1.1\r\nHost: x\r\n".encode()
RECEIVE_SECONDS = 5
WAIT_SECONDS = 600  # only a failure waits so long
ROUNDS = 3
NUM_SLOW = 100
AT_ONCE = 8
MOST_AFTER = 5 * LARGE
"""More than before the load, once it is over: what glibc keeps, and no more each time."""
MOST_MEANWHILE = 2 * TOTAL + 8 * LARGE
"""More than before the load, while it lasts: bodies, their chunks and what is made of one each."""


@pytest.fixture(scope="module")
def running(exported: Exported) -> Iterator[RunningProgram]:
    with program(
        "--model_name=m",
        f"--model_base_path={exported(half_plus_two).parent}",
        f"--rest_max_body_bytes={LARGE + 10**6}",
        f"--rest_max_total_body_bytes={TOTAL}",
        f"--rest_receive_timeout_seconds={RECEIVE_SECONDS}",
        "--rest_api_num_threads=2",
        "--rest_api_timeout_in_ms=0",
    ) as started:
        yield started


def memory(running: RunningProgram, field: str) -> int:
    """VmRSS, what it has now, or VmHWM, the most that it had; in bytes."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status)[1])


def ask(port: int, body: bytes, headers: dict[str, str]) -> int:
    """The status; of an answer that came before the body had been sent, too."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)) as connection:
        try:
            connection.request("POST", TARGET, body, headers)
            response = connection.getresponse()
            response.read()
        except OSError:
            return 0  # it went on sending after a refusal
        return response.status


def large_json() -> bytes:
    number = b"1." + b"0" * 998
    return b'{"instances": [' + b", ".join([number] * (LARGE // 1002)) + b"]}"


def large_array() -> bytes:
    file = io.BytesIO()
    np.save(file, np.ones(LARGE // 4, np.float32))
    return file.getvalue()


def bomb() -> bytes:
    """Ten times as much as a body may have, in a thousandth of that."""
    zeros = bytes(10**6)
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=9) as packed:
        for _ in range(10 * MEGABYTES):
            packed.write(zeros)
    return file.getvalue()


def cut_short(port: int, body: bytes) -> int:
    with socket.create_connection(("127.0.0.1", port), WAIT_SECONDS) as client:
        head = HEAD + b"Content-Length: %d\r\n\r\n" % len(body)
        with suppress(OSError):  # there may be no room
            client.sendall(head + body[: len(body) // 2])
    return 0


def slow(port: int) -> int:
    """Many bodies that begin and do not go on."""
    with ExitStack() as open_ones:
        clients = [
            open_ones.enter_context(socket.create_connection(("127.0.0.1", port), WAIT_SECONDS))
            for _ in range(NUM_SLOW)
        ]
        for client in clients:
            client.sendall(HEAD + b"Content-Length: 1000000\r\n\r\n" + b" " * 50_000)
        answers = {client.recv(1000).split(b" ")[1] for client in clients}
    assert answers == {b"408"}
    return 408


class Steady:
    """Somebody who asks for little, again and again, all the while."""

    def __init__(self, port: int) -> None:
        self.answers: Counter[int] = Counter()
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def end(self) -> Counter[int]:
        self._stop.set()
        self._thread.join()
        return self.answers

    def _run(self) -> None:
        while not self._stop.is_set():
            self.answers[ask(self._port, json.dumps({"instances": [1.0]}).encode(), {})] += 1


def load(port: int, bodies: dict[str, bytes]) -> list[int]:
    """The statuses of one of each kind, all at once."""
    with ThreadPoolExecutor(AT_ONCE) as clients:
        asked = [
            clients.submit(ask, port, bodies["numbers"], {}),
            clients.submit(slow, port),
            clients.submit(ask, port, bodies["array"], {"Content-Type": "application/x-npy"}),
            clients.submit(cut_short, port, bodies["numbers"]),
            clients.submit(ask, port, bodies["bomb"], {"Content-Encoding": "gzip"}),
            clients.submit(ask, port, b"[" * LARGE, {}),
            clients.submit(ask, port, b'{"a":' * (LARGE // 5), {}),
            clients.submit(cut_short, port, bodies["array"]),
        ]
        return [work.result() for work in asked]


@pytest.mark.slow
@pytest.mark.timeout(2 * WAIT_SECONDS)
def test_hostile_bodies_cost_no_more_than_they_may(running: RunningProgram):
    port = running.rest_port
    bodies = {"numbers": large_json(), "array": large_array(), "bomb": bomb()}
    assert ask(port, b'{"instances": [1.0]}', {}) == 200
    before = memory(running, "VmRSS")
    steady = Steady(port)
    answers: Counter[int] = Counter()
    after = []
    for _ in range(ROUNDS):
        answers.update(load(port, bodies))
        after.append(memory(running, "VmRSS") - before)
    others = steady.end()
    meanwhile = memory(running, "VmHWM") - before
    log.info("%s, others %s, bytes after each %s, meanwhile %s", answers, others, after, meanwhile)

    # Those that were told to come again, or were cut off then, found too many others.
    assert answers.keys() <= {0, 200, 400, 408, 413, 503}
    assert answers[408] == ROUNDS
    assert others.keys() <= {200, 503}
    assert others[200] > 0
    assert meanwhile < MOST_MEANWHILE
    assert max(after) < MOST_AFTER
    assert after[-1] < after[0] + LARGE
    assert ask(port, bodies["numbers"], {}) == 200
    assert "Traceback" not in running.log
