"""How a process ended, in words."""

from __future__ import annotations

import signal


def ending(status: int) -> str:
    """What follows a process's name, by its exit status, which is negative for a signal.

    SIGKILL comes with a hint, for its process could say nothing: say it only of processes that
    this program has not killed itself.
    """
    if status >= 0:
        return f"ended with exit status {status}"
    try:
        name = signal.Signals(-status).name
    except ValueError:
        return f"was ended by signal {-status}"
    hint = ", as happens where memory runs out" if -status == signal.SIGKILL else ""
    return f"was ended by {name}{hint}"
