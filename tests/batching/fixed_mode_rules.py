"""The rules of TensorFlow Serving's fixed batching, written down once more as a simulation of them.

It shares nothing with the scheduler under test: no thread, no clock, no word of its code. Queues,
arrivals and batches are plain values; times are whole microseconds. Only what the rules leave open
is chosen here: at one instant runs end first, then the free threads look, then the arrivals of that
instant come one by one and the threads look after each. A thread that found nothing looks again as
soon as there is something, where TensorFlow Serving's may take 1 ms.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Rules:
    """The parameters by their names in the file.

    ``max_execution_batch_size`` is None where requests are not split.
    """

    max_batch_size: int
    batch_timeout_micros: int
    max_enqueued_batches: int
    num_batch_threads: int
    allowed_batch_sizes: tuple[int, ...] = ()
    max_execution_batch_size: int | None = None

    @property
    def batch_rows(self) -> int:
        """How many rows a batch holds at most."""
        return self.max_execution_batch_size or self.max_batch_size

    @property
    def enqueued_bound(self) -> int:
        """How many batches a queue may hold: one at least where requests are not split."""
        splitting = self.max_execution_batch_size is not None
        return self.max_enqueued_batches if splitting else max(1, self.max_enqueued_batches)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request comes to ``queue``, at ``at``; it gives up at ``deadline``, None for never."""

    at: int
    queue: int
    rows: int
    deadline: int | None = None


@dataclass(frozen=True, slots=True)
class Started:
    """One batch that a thread took: (arrival's number, rows) for each part in it.

    ``expired``: no model saw it. Otherwise one saw it with ``rows_with_padding``.
    """

    at: int
    queue: int
    parts: tuple[tuple[int, int], ...]
    rows_with_padding: int
    expired: bool


@dataclass(slots=True)
class Trace:
    """What came of a list of arrivals: the batches as they started, the refusals by number."""

    batches: list[Started] = field(default_factory=list)
    refusals: dict[int, str] = field(default_factory=dict)


class _Batch:
    def __init__(self) -> None:
        self.parts: list[tuple[int, int]] = []
        self.opened_at = 0

    @property
    def rows(self) -> int:
        return sum(rows for _, rows in self.parts)


class _Queue:
    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.batches = deque([_Batch()])  # the last is the open one, empty or not

    def refusal(self, rows: int) -> str | None:
        rules, open_batch, enqueued = self.rules, self.batches[-1], len(self.batches)
        if rows > rules.max_batch_size:
            return (
                f"Task size {rows} is larger than maximum input batch size {rules.max_batch_size}"
            )
        full = "The batch scheduling queue to which this task was submitted is full; "
        if rules.max_execution_batch_size is None:
            if open_batch.rows + rows > rules.max_batch_size and enqueued >= rules.enqueued_bound:
                return (
                    f"{full}currently {enqueued} batches enqueued and max_enqueued_batches is "
                    f"{rules.enqueued_bound}"
                )
            return None
        capacity = (
            (rules.enqueued_bound - enqueued) * rules.batch_rows
            + rules.batch_rows
            - open_batch.rows
        )
        if rows > capacity:
            return (
                f"{full}task size is {rows} but scheduling capacity is only {capacity} "
                f"(num_enqueued_batches={enqueued}, "
            )
        return None

    def admit(self, number: int, rows: int, now: int) -> None:
        for part in self._parts(rows):
            if self.batches[-1].rows + part > self.rules.batch_rows:
                self.batches.append(_Batch())
            if not self.batches[-1].parts:
                self.batches[-1].opened_at = now
            self.batches[-1].parts.append((number, part))

    def _parts(self, rows: int) -> list[int]:
        room = self.rules.batch_rows - self.batches[-1].rows
        if rows <= room or self.rules.max_execution_batch_size is None:
            return [rows]
        parts = [room] if room else []
        rest = rows - room
        while rest:
            parts.append(min(rest, self.rules.batch_rows))
            rest -= parts[-1]
        return parts

    def ripe_at(self) -> int | None:
        """When there is a batch to take, should nothing more come; 0: at once, None: never."""
        open_batch = self.batches[-1]
        if len(self.batches) > 1 or (open_batch.parts and open_batch.rows >= self.rules.batch_rows):
            return 0
        return open_batch.opened_at + self.rules.batch_timeout_micros if open_batch.parts else None

    def take(self, now: int) -> _Batch | None:
        ripe_at = self.ripe_at()
        if ripe_at is None or ripe_at > now:
            return None
        if len(self.batches) == 1:
            self.batches.append(_Batch())
        return self.batches.popleft()


class Simulation:
    """Plays arrivals against the rules.

    A run takes ``run_micros[n]``, counted round, where n is the number of the arrival that comes
    first in it. There are ``queues`` at first; others are added when the first comes for them.
    """

    def __init__(self, rules: Rules, queues: int, run_micros: Sequence[int]) -> None:
        self._rules = rules
        self._run_micros = run_micros
        self._names = list(range(queues))  # in the order in which they were added
        self._queues = [_Queue(rules) for _ in range(queues)]
        self._next_queue = 0
        self._run_ends: list[int] = []

    def play(self, arrivals: Sequence[Arrival]) -> Trace:
        """What comes of these arrivals, given in the order of their times."""
        trace = Trace()
        to_come = deque(enumerate(arrivals))
        while (now := self._next_instant(to_come[0][1].at if to_come else None)) is not None:
            self._run_ends = [end for end in self._run_ends if end > now]
            self._threads_look(arrivals, trace, now)
            while to_come and to_come[0][1].at == now:
                number, arrival = to_come.popleft()
                if arrival.queue not in self._names:
                    self._names.append(arrival.queue)
                    self._queues.append(_Queue(self._rules))
                queue = self._queues[self._names.index(arrival.queue)]
                refusal = queue.refusal(arrival.rows)
                if refusal is not None:
                    trace.refusals[number] = refusal
                else:
                    queue.admit(number, arrival.rows, now)
                self._threads_look(arrivals, trace, now)
        return trace

    def _next_instant(self, next_arrival: int | None) -> int | None:
        instants = [*self._run_ends]
        if next_arrival is not None:
            instants.append(next_arrival)
        if len(self._run_ends) < self._rules.num_batch_threads:
            instants += [
                ripe_at for queue in self._queues if (ripe_at := queue.ripe_at()) is not None
            ]
        return min(instants, default=None)

    def _threads_look(self, arrivals: Sequence[Arrival], trace: Trace, now: int) -> None:
        while len(self._run_ends) < self._rules.num_batch_threads:
            for _ in self._queues:
                number = self._next_queue
                self._next_queue = (number + 1) % len(self._queues)
                batch = self._queues[number].take(now)
                if batch is not None:
                    self._start(self._names[number], batch, arrivals, trace, now)
                    break
            else:
                return

    def _start(
        self, queue: int, batch: _Batch, arrivals: Sequence[Arrival], trace: Trace, now: int
    ) -> None:
        deadlines = [arrivals[number].deadline for number, _ in batch.parts]
        expired = all(deadline is not None and deadline <= now for deadline in deadlines)
        padded = next(
            (size for size in self._rules.allowed_batch_sizes if size >= batch.rows), batch.rows
        )
        trace.batches.append(Started(now, queue, tuple(batch.parts), padded, expired))
        if not expired:
            first = batch.parts[0][0]
            self._run_ends.append(now + self._run_micros[first % len(self._run_micros)])
