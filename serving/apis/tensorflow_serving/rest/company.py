"""Requests that are there together, and are worked on stage by stage."""

from __future__ import annotations

from collections.abc import Generator
from types import coroutine

_LOOK_EVERY = 15  # odd: or of those that come in pairs, only the last might ever look


class Company:
    """Has a request wait after each stage of its work until others that are there have come so far.

    The code of a stage, and a runtime's most of all, pushes everything else out of the processor's
    caches: 64 small requests one after the other cost a sixth more than stage by stage. Others can
    be seen only once they had a turn, so a request that is alone waits for one now and then; mostly
    it does not, as a turn costs more than it brings where nobody comes. Used on the event loop, as
    a context in which a request is there.
    """

    __slots__ = ("_num_alone", "_present")

    def __init__(self) -> None:
        self._present = 0
        self._num_alone = 0  # how many have come, since one met another

    def __enter__(self) -> Company:
        self._present += 1
        self._num_alone = 0 if self._present > 1 else self._num_alone + 1
        return self

    def __exit__(self, *_exception: object) -> None:
        self._present -= 1

    @property
    def may_be_met(self) -> bool:
        """Whether to give others a turn."""
        return self._num_alone <= 1 or self._num_alone % _LOOK_EVERY == 0


@coroutine
def turn_of_others() -> Generator[None, None, None]:
    """Let all go on that can, before this does: ``asyncio.sleep(0)``, with fewer steps."""
    yield
