"""How tests wait for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable

WAIT_SECONDS = 60
"""Far longer than anything takes on a busy machine; only a failure waits so long."""

START_SECONDS = 100
"""For programs that import TensorFlow first, perhaps several at the same time."""


def await_(
    condition: Callable[[], object],
    expected: Callable[[], str] = lambda: "something that did not happen",
    seconds: float = WAIT_SECONDS,
) -> None:
    """Return once the condition holds; fails, saying what was expected, when it never does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"expected {expected()}"
        time.sleep(0.005)
