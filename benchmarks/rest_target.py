"""One JSON request to a REST server: asked once to see what comes, by wrk to see how fast."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import load
from load import Target
from rounds import Contender
from servers import Server

_ASK_SECONDS = 60
_START_SECONDS = 60


@dataclass(frozen=True, slots=True)
class JsonRequest:
    """What is sent where, what must come back, and where in the answer that stands."""

    path: str
    document: Any
    expected: Any
    values: Callable[[Any], Any] = lambda answer: answer["predictions"]


def rest_contender(server: Server, request: JsonRequest) -> Contender:
    """The server under wrk's load of one request."""
    target = Target(server.port, request.path, json.dumps(request.document).encode())

    def check() -> None:
        answer = request.values(json.loads(_ask(target)))
        np.testing.assert_allclose(answer, request.expected, rtol=1e-5)

    return Contender(server, lambda *shape: load.wrk(target, *shape), check)


def await_answer(contender: Contender) -> None:
    """Return once the server gives the right answer. Raises RuntimeError when it does not."""
    end = time.monotonic() + _START_SECONDS
    while True:
        try:
            return contender.check()
        except (OSError, urllib.error.URLError) as error:
            if time.monotonic() > end:
                said = "".join(contender.server.output[-10:])
                raise RuntimeError(f"{error}; its log ends with\n{said}") from None
            time.sleep(0.5)


def _ask(target: Target) -> bytes:
    request = urllib.request.Request(
        f"http://127.0.0.1:{target.port}{target.path}",
        target.body,
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=_ASK_SECONDS) as response:
        answer: bytes = response.read()
    return answer
