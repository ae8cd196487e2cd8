"""One process of real gRPC clients, which send one message over and over until the time is over.

    python benchmarks/grpc_client.py HOST:PORT METHOD CONNECTIONS STREAMS SECONDS

Prints a line when its connections are there, and begins when it has read the message. Prints then,
as JSON, the latency of every call in µs, the lengths of answers that occurred, and the processor
time it used.
"""

from __future__ import annotations

import json
import sys
import threading
import time

import grpc

_DEADLINE_SECONDS = 30


class Client:
    """One connection's call, and what came of calling it."""

    def __init__(self, address: str, method: str) -> None:
        # Channels of equal arguments would share one connection.
        options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
        self._channel = grpc.insecure_channel(address, options=options)
        grpc.channel_ready_future(self._channel).result(_DEADLINE_SECONDS)
        self._call = self._channel.unary_unary(method)
        self.latencies_us: list[int] = []
        self.lengths: set[int] = set()

    def call_until(self, end: float, request: bytes) -> None:
        """One call after the other. Raises grpc.RpcError for one that fails."""
        while (started := time.perf_counter()) < end:
            answer = self._call(request, timeout=_DEADLINE_SECONDS)
            self.latencies_us.append(round((time.perf_counter() - started) * 1e6))
            self.lengths.add(len(answer))


def main() -> None:
    address, method, connections, streams, seconds = sys.argv[1:]
    clients = [Client(address, method) for _ in range(int(connections))]
    print("ready", flush=True)
    request = sys.stdin.buffer.read()
    used = time.process_time()
    end = time.perf_counter() + float(seconds)
    threads = [
        threading.Thread(target=client.call_until, args=(end, request))
        for client in clients
        for _ in range(int(streams))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    answer = {
        "cpu_seconds": time.process_time() - used,
        "latencies_us": [latency for client in clients for latency in client.latencies_us],
        "lengths": sorted(set().union(*(client.lengths for client in clients))),
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
