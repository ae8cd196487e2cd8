"""Load of single rows on a server that may batch them: a closed loop, or arrivals at random."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import load
from load import Connections, Load, Target
from report import digits_of

PATH = "/tensorflow.serving.PredictionService/Predict"
_CLIENT = Path(__file__).parent / "batching_client.py"
_CLOSED_DEADLINE_SECONDS = 60
_REJECTED = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
_MISSED = "DEADLINE_EXCEEDED"
_LATE_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class BatchingCase:
    """Serialized Predict requests of one row each, and the values of their output ``y``.

    ``is_fixed``: all are of one shape. ``most_in_flight`` bounds the closed loops,
    ``deadline_seconds`` is that of every open-loop request, and rounds last ``stretch`` times as
    long as for others: all three for models whose answers take long.
    """

    model: str
    requests: Sequence[bytes]
    expected: Sequence[np.ndarray]
    is_fixed: bool
    most_in_flight: int = 64
    deadline_seconds: float = 0.5
    stretch: float = 1.0


@dataclass(frozen=True, slots=True)
class ClosedLoop:
    """So many requests are in flight all the time."""

    in_flight: int

    def __str__(self) -> str:
        return f"{self.in_flight} in flight"


@dataclass(frozen=True, slots=True)
class OpenLoop:
    """So many requests arrive each second, in a Poisson process."""

    rate: float

    def __str__(self) -> str:
        return f"{self.rate:,.{digits_of(self.rate)}f}/s"


@dataclass(frozen=True, slots=True)
class Share:
    """An open loop at this share of the best rate of the closed ones."""

    share: float


def loads_of(text: str) -> list[ClosedLoop | Share]:
    """From ``closed=64,open=0.8``. Raises ValueError for others, and for no closed loop at all."""
    parsed: list[ClosedLoop | Share] = []
    for part in text.split(","):
        kind, _, amount = part.partition("=")
        if kind not in ("closed", "open"):
            raise ValueError(f"{part}: a load is closed=IN_FLIGHT or open=SHARE")
        parsed.append(ClosedLoop(int(amount)) if kind == "closed" else Share(float(amount)))
    if not any(isinstance(one, ClosedLoop) for one in parsed):
        raise ValueError("open loops are shares of a closed loop's rate, of which there is none")
    return parsed


def generate(
    port: int, case: BatchingCase, response_bytes: int, loop: ClosedLoop | OpenLoop, seconds: float
) -> Load:
    """What a client has seen of the server. Raises RuntimeError for answers that are not right.

    Where all requests are of one shape, the closed loop is h2load's, on as many connections, which
    sends the first one only; else it is the open loop's client.
    """
    if isinstance(loop, ClosedLoop) and case.is_fixed:
        target = Target(port, PATH, case.requests[0], response_bytes)
        return load.h2load(target, Connections(loop.in_flight), seconds)
    return _client(port, case, response_bytes, loop, seconds)


def _client(
    port: int, case: BatchingCase, response_bytes: int, loop: ClosedLoop | OpenLoop, seconds: float
) -> Load:
    if isinstance(loop, ClosedLoop):
        arguments = ("closed", loop.in_flight, seconds, _CLOSED_DEADLINE_SECONDS)
    else:
        arguments = ("open", loop.rate, seconds, case.deadline_seconds)
    command = (sys.executable, str(_CLIENT), f"127.0.0.1:{port}", PATH, *map(str, arguments))
    data = b"".join(len(one).to_bytes(4, "big") + one for one in case.requests)
    result = subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True)
    seen = json.loads(result.stdout.splitlines()[-1])
    if any(length != response_bytes for length in seen["lengths"]):
        raise RuntimeError(f"answers should have {response_bytes} bytes each: {seen['lengths']}")
    return seen_by_client(seen, seconds)


def seen_by_client(seen: dict, seconds: float) -> Load:
    """From what the client prints. Raises RuntimeError where calls failed for other reasons.

    A rate is that of the requests of these seconds which were answered well, whenever that was.
    """
    codes: dict[str, int] = dict(seen["codes"])
    answered = codes.pop("OK", 0)
    rejected = sum(codes.pop(code, 0) for code in _REJECTED)
    missed = codes.pop(_MISSED, 0)
    if codes:
        raise RuntimeError(f"calls failed: {codes}")
    latencies: Sequence[int] = seen["latencies_us"]
    busy = seen["cpu_seconds"] / seconds
    p50_us, p99_us = load.percentiles(latencies)
    return Load(
        answered,
        seconds,
        p50_us,
        p99_us,
        busy,
        rejected=rejected,
        missed=missed,
        late=seen["late_us"] > _LATE_SHARE * p99_us,
    )
