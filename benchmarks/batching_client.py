"""One process of a real gRPC client, with requests in a closed loop or arriving as they please.

    python benchmarks/batching_client.py HOST:PORT METHOD closed IN_FLIGHT SECONDS DEADLINE
    python benchmarks/batching_client.py HOST:PORT METHOD open RATE SECONDS DEADLINE

In the closed loop so many requests are always in flight; in the open one they are sent at random
times, so many a second, whatever became of earlier ones. Prints a line when its connection is
there, and begins when it has read the messages that it sends in turn, each after its length in four
bytes. Prints then, as JSON, the latency of every success in µs from when it was sent, how many
calls ended with which code, the lengths of answers that occurred, how late requests were sent
(99 % of them at most, in µs) and the processor time it used.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import grpc

_READY_SECONDS = 30
_SEED = 0
_HEAD_START_SECONDS = 0.01
# By default, the thread that takes answers keeps the one that sends waiting for ten times as long.
_SWITCH_SECONDS = 0.0005


class Client:
    """Calls that nobody waits for, and what came of those that ended before ``end``."""

    def __init__(
        self, call: grpc.UnaryUnaryMultiCallable, requests: Sequence[bytes], deadline: float
    ) -> None:
        self.end = math.inf
        self._call = call
        self._requests = itertools.cycle(requests)
        self._deadline = deadline
        self.latencies_us: list[int] = []
        self.codes: Counter[str] = Counter()
        self.lengths: set[int] = set()

    def send(self, then: Callable[[], None]) -> None:
        """Send the next request; ``then`` is called, on another thread, when it is answered."""
        started = time.perf_counter()
        future = self._call.future(next(self._requests), timeout=self._deadline)
        future.add_done_callback(partial(self._done, started, then))

    def _done(self, started: float, then: Callable[[], None], future: grpc.Future) -> None:
        ended = time.perf_counter()
        if ended < self.end:
            code = future.code()
            self.codes[code.name] += 1
            if code is grpc.StatusCode.OK:
                self.latencies_us.append(round((ended - started) * 1e6))
                self.lengths.add(len(future.result()))
        then()


def arrivals(rate: float, seconds: float) -> Iterator[float]:
    """Seconds at which requests arrive, independent of each other, ``rate`` a second on average.

    The same ones whenever it is asked, so that all servers are asked the same.
    """
    gaps = random.Random(_SEED)
    due = gaps.expovariate(rate)
    while due < seconds:
        yield due
        due += gaps.expovariate(rate)


def closed_loop(client: Client, in_flight: int, seconds: float) -> None:
    """Return when the time is over and what was sent is answered, which counts no more."""
    ended = threading.Semaphore(0)
    client.end = time.perf_counter() + seconds

    def go_on() -> None:
        if time.perf_counter() < client.end:
            client.send(go_on)
        else:
            ended.release()

    for _ in range(in_flight):
        client.send(go_on)
    for _ in range(in_flight):
        ended.acquire()


def open_loop(client: Client, times: Sequence[float]) -> float:
    """Return when all are answered: how late they were sent, 99 % of them, in µs."""
    answered = threading.Semaphore(0)
    late = []
    start = time.perf_counter() + _HEAD_START_SECONDS
    for due in times:
        if (early := start + due - time.perf_counter()) > 0:
            time.sleep(early)
        late.append(time.perf_counter() - start - due)
        client.send(answered.release)
    for _ in times:
        answered.acquire()
    return sorted(late)[len(late) * 99 // 100] * 1e6 if late else 0.0


def messages(data: bytes) -> Iterator[bytes]:
    """Messages that follow their length in four bytes each."""
    start = 0
    while start < len(data):
        begin = start + 4
        start = begin + int.from_bytes(data[start:begin], "big")
        yield data[begin:start]


def main() -> None:
    address, method, loop, amount, seconds, deadline = sys.argv[1:]
    sys.setswitchinterval(_SWITCH_SECONDS)
    channel = grpc.insecure_channel(address, options=[("grpc.max_receive_message_length", -1)])
    grpc.channel_ready_future(channel).result(_READY_SECONDS)
    print("ready", flush=True)
    requests = list(messages(sys.stdin.buffer.read()))
    client = Client(channel.unary_unary(method), requests, float(deadline))
    used, late_us = time.process_time(), 0.0
    if loop == "closed":
        closed_loop(client, int(amount), float(seconds))
    else:
        late_us = open_loop(client, list(arrivals(float(amount), float(seconds))))
    answer = {
        "cpu_seconds": time.process_time() - used,
        "latencies_us": client.latencies_us,
        "codes": client.codes,
        "lengths": sorted(client.lengths),
        "late_us": late_us,
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
