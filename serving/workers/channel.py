"""Messages both ways between the supervisor and one worker, over a pair of sockets."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue

from serving.core.errors import Internal, ServingError, Unavailable

log = logging.getLogger(__name__)

Answer = Callable[[object], None]
"""Takes the answer to a question, from any thread; what is no question needs none."""

Hear = Callable[[object, Answer], None]
"""Hears a message, in the order they were sent, on the channel's thread: it must return soon."""


@dataclass(frozen=True, slots=True)
class _Told:
    message: object


@dataclass(frozen=True, slots=True)
class _Asked:
    number: int
    message: object


@dataclass(frozen=True, slots=True)
class _Answered:
    number: int
    outcome: object


class Channel:
    """One end. What is told and asked arrives in this order. Thread-safe; nothing here blocks.

    Each process inherits its end and nobody else can reach it, so both trust what they read. When
    the process at the other end is gone, questions that wait are answered with Unavailable, and
    what is told from then on is lost.
    """

    def __init__(self, connection: Connection, name: str) -> None:
        """``name`` is that of the other end."""
        self._connection = connection
        self._name = name
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._questions: dict[int, Future[object]] = {}
        self._outgoing: SimpleQueue[_Told | _Asked | _Answered | None] = SimpleQueue()
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether the process at the other end is gone."""
        return self._closed

    def start(self, hear: Hear, ended: Callable[[], None]) -> None:
        """Begin to listen; ``ended`` is called once, after the last message, when it is closed."""
        for body in (partial(self._read, hear, ended), self._write):
            threading.Thread(target=body, name="channel", daemon=True).start()

    def tell(self, message: object) -> None:
        """Send what needs no answer."""
        self._outgoing.put(_Told(message))

    def ask(
        self, message: object, answered: Callable[[Future[object]], None] | None = None
    ) -> Future[object]:
        """Send a question. The result is the answer, which may be a ServingError.

        ``answered`` hears of an answer on the channel's thread, before what came after it; where
        the other end is gone already it hears so on this one.
        """
        question: Future[object] = Future()
        if answered:
            question.add_done_callback(answered)
        with self._lock:
            number = next(self._numbers)
            closed = self._closed
            if not closed:
                self._questions[number] = question
        if closed:
            question.set_result(self._gone())
        else:
            self._outgoing.put(_Asked(number, message))
        return question

    def _read(self, hear: Hear, ended: Callable[[], None]) -> None:
        with suppress(EOFError, OSError):
            while True:
                self._take(self._connection.recv(), hear)
        with self._lock:
            self._closed = True
            waiting = list(self._questions)
        for number in waiting:
            self._answer(number, self._gone())
        self._outgoing.put(None)
        ended()

    def _take(self, frame: _Told | _Asked | _Answered, hear: Hear) -> None:
        if isinstance(frame, _Answered):
            self._answer(frame.number, frame.outcome)
            return
        reply = _no_answer
        if isinstance(frame, _Asked):
            reply = partial(self._reply, frame.number)
        try:
            hear(frame.message, reply)
        except ServingError as error:
            reply(error)
        except Exception:
            log.exception("a message from %s was not understood", self._name)
            reply(Internal(f"{type(frame.message).__name__} failed"))

    def _answer(self, number: int, outcome: object) -> None:
        with self._lock:
            question = self._questions.pop(number, None)
        if question:
            question.set_result(outcome)

    def _reply(self, number: int, outcome: object) -> None:
        self._outgoing.put(_Answered(number, outcome))

    def _gone(self) -> Unavailable:
        return Unavailable(f"{self._name} is gone")

    def _write(self) -> None:
        with suppress(OSError):
            while frame := self._outgoing.get():
                self._connection.send(frame)
        if self._closed:
            self._connection.close()


def _no_answer(_outcome: object) -> None:
    """Nobody asked."""


def when_all(questions: Sequence[Future[object]], done: Callable[[Sequence[object]], None]) -> None:
    """Call back once with every answer, on the thread of the last one; perhaps right now."""
    unanswered = set(questions)
    lock = threading.Lock()

    def answered(question: Future[object]) -> None:
        with lock:
            unanswered.discard(question)
            is_last = not unanswered
        if is_last:
            done([question.result() for question in questions])

    if not questions:
        done([])
    for question in questions:
        question.add_done_callback(answered)
