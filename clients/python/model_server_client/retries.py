"""How often, after which waits, and for which failures a call is tried again."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass

from model_server_client.errors import Code


@dataclass(frozen=True, slots=True)
class Retries:
    """A call is tried up to ``attempts`` times, within the one deadline that it has.

    The n-th wait is about ``first_wait * multiplier ** (n - 1)`` seconds, a fifth more or less, and
    about ``longest_wait`` at most; a server that says how long to wait is obeyed. Predictions
    change nothing on a server, so all failures with ``codes`` are tried again, whether or not the
    server had begun. Raises ValueError for less than one attempt, for more than the five that gRPC
    makes, and for waits below a hundredth of a second: calls hang until their deadlines where
    gRPC's timer has less than a millisecond.
    """

    attempts: int = 4
    first_wait: float = 0.1
    multiplier: float = 2.0
    longest_wait: float = 2.0
    codes: frozenset[Code] = frozenset({Code.UNAVAILABLE})

    def __post_init__(self) -> None:
        if not 1 <= self.attempts <= 5:
            raise ValueError(f"attempts={self.attempts}: gRPC makes 1 to 5")
        if min(self.first_wait, self.longest_wait) < 0.01 or self.multiplier < 1:
            raise ValueError(f"{self}: waits begin at 0.01 seconds, their multiplier at 1")

    def waits(self) -> Iterator[float]:
        """Seconds before the second attempt, the third …"""
        bound = self.first_wait
        for _ in range(self.attempts - 1):
            yield min(bound, self.longest_wait) * random.uniform(0.8, 1.2)
            bound *= self.multiplier


USUAL = Retries()


def service_config(retries: Retries) -> str:
    """The same for gRPC's own machinery (gRFC A6), with calls spread over all addresses."""
    method: dict[str, object] = {"name": [{}]}
    if retries.attempts > 1 and retries.codes:
        method["retryPolicy"] = {
            "maxAttempts": retries.attempts,
            "initialBackoff": f"{retries.first_wait:.9f}s",
            "maxBackoff": f"{retries.longest_wait:.9f}s",
            "backoffMultiplier": retries.multiplier,
            "retryableStatusCodes": sorted(code.name for code in retries.codes),
        }
    return json.dumps({"loadBalancingConfig": [{"round_robin": {}}], "methodConfig": [method]})
