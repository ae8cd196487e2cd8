"""What the workers have counted together, those among them that are gone."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import cast

from serving.core.errors import ServingError
from serving.core.servable_id import ServableId
from serving.metrics.families import Snapshot, lasting, merged, of_versions
from serving.workers.channel import Channel
from serving.workers.messages import Count

_SECONDS_TO_COUNT = 3.0
"""How long a worker may take to say what it holds; who asked waits two seconds longer."""


class Tally:
    """What one worker has told of its metrics. Thread-safe."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._question: Future[object] | None = None
        self.latest: Snapshot = {}

    def tell(self, counted: Snapshot) -> None:
        """Called on the channel's thread alone, so what was counted last is what stays."""
        self.latest = counted

    def ask(self) -> Future[object]:
        """What the worker holds now; one that is silent has a single question to answer."""
        with self._lock:
            if self._question is None or self._question.done():
                self._question = self._channel.ask(Count(), self._take)
            return self._question

    def _take(self, question: Future[object]) -> None:
        outcome = question.result()
        if not isinstance(outcome, ServingError):
            self.tell(cast("Snapshot", outcome))


class Counts:
    """The tallies of all workers. Counters never go down: whatever a worker was known to have
    counted counts once, also while it does not answer and when it is gone. Thread-safe.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: list[Tally] = []
        self._left: list[Tally] = []
        self._before: Snapshot = {}

    def begin(self, tally: Tally) -> None:
        """The worker serves: it is asked from now on."""
        with self._lock:
            if tally not in self._asked:
                self._asked.append(tally)

    def leave(self, tally: Tally) -> None:
        """The worker is not asked any more; what it tells until it ends counts."""
        with self._lock:
            _drop(tally, self._asked)
            if tally not in self._left:
                self._left.append(tally)

    def end(self, tally: Tally) -> None:
        """The worker is gone."""
        with self._lock:
            _drop(tally, self._asked)
            _drop(tally, self._left)
            self._before = merged([self._before, lasting(tally.latest)])

    def add(self, counted: Snapshot) -> None:
        """What somebody else than a worker has counted."""
        with self._lock:
            self._before = merged([self._before, counted])

    def tell_others(
        self,
        asker: Tally,
        versions: Collection[ServableId],
        answer: Callable[[Sequence[Snapshot]], None],
    ) -> None:
        """Answer with what all but one hold, on another thread; what a silent one told last.

        ``versions`` are those that any worker has; what was counted for others is dropped.
        """
        kept = [(each.name, str(each.version)) for each in versions]
        with self._lock:
            if asker in self._asked:  # where nobody serves, there may be versions again
                self._before = of_versions(self._before, kept)
            known = [self._before]
            known += [lasting(each.latest) for each in self._left if each is not asker]
            others = [each for each in self._asked if each is not asker]
        asked = [(each, each.ask()) for each in others]

        def gather() -> None:
            concurrent.futures.wait([question for _, question in asked], _SECONDS_TO_COUNT)
            answers = [_told(each, question) for each, question in asked]
            answer([of_versions(each, kept) for each in [*known, *answers]])

        threading.Thread(target=gather, name="counts", daemon=True).start()


def _told(tally: Tally, question: Future[object]) -> Snapshot:
    outcome = question.result() if question.done() else None
    if outcome is None or isinstance(outcome, ServingError):
        return lasting(tally.latest)
    return cast("Snapshot", outcome)


def _drop(tally: Tally, tallies: list[Tally]) -> None:
    if tally in tallies:
        tallies.remove(tally)
