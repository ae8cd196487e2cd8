"""Runs what REST requests ask of models: which thread does what, and for how long."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Generator
from concurrent.futures import Executor
from types import coroutine

from serving.apis.tensorflow_serving.rest.pending_answer import PendingAnswer
from serving.apis.tensorflow_serving.rest.routes import Route
from serving.apis.tensorflow_serving.rest.verb import Call, Content, Writing
from serving.apis.tensorflow_serving.rest.waiting_client import WaitingClient
from serving.core.clock import Clock
from serving.core.errors import Cancelled, ServingError, Unavailable
from serving.core.models import Models, ModelSpec
from serving.core.priority import Priority
from serving.core.request_log import CallLoggers, LoggedCall
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import attempt

_FEW_BYTES = 16 * 2**10
_LITTLE = 1024
"""Up to here a body is read, or written, in less time than it takes to hand the work over."""

Outcome = Content | ServingError


class ModelCalls:
    """Runs calls on leased models. Used on the event loop.

    What is small is read and written on the event loop, and a model whose runs are quick runs
    there too: to hand a request to another thread and back takes longer than all of that. What is
    large goes to ``executor``, so that others need not wait for it. A request holds one lease.
    ``timeout_seconds`` bounds the wait for a load and the run (None or 0: no bound).
    """

    def __init__(
        self,
        models: Models,
        executor: Executor,
        timeout_seconds: float | None,
        clock: Clock,
        loggers: CallLoggers,
    ) -> None:
        self._models = models
        self._loggers = loggers
        self._executor = executor
        self._timeout_seconds = timeout_seconds
        self._clock = clock

    def deadline(self) -> float | None:
        """When a request that begins now is over, in monotonic seconds."""
        return self._clock.monotonic() + self._timeout_seconds if self._timeout_seconds else None

    async def run(
        self,
        route: Route,
        read: Callable[[], tuple[Call, Priority]],
        num_bytes: float,
        encode: Callable[[Content], Content],
        client: WaitingClient,
    ) -> Outcome:
        """What becomes of the call that ``read`` gets from a request of so many bytes, encoded.

        A client that disconnects cancels the run it waits for, and so does the end of the time
        that a stop leaves.
        """
        pending: PendingAnswer[Outcome] = PendingAnswer()
        call = _ModelCall(self, route, encode, client, pending, num_bytes=num_bytes)
        if num_bytes <= _FEW_BYTES:
            began = await self._begin_in_company(call, read)
        else:
            began = self.submit(lambda: call.begin(read))
        if not began:
            return _stopping()
        return pending.answer if pending.given else await self._answer_of(pending, client)

    async def off_loop(
        self, work: Callable[[Callable[[Outcome], None]], None], client: WaitingClient
    ) -> Outcome:
        """What ``work``, done on the executor, replies with, sooner or later."""
        pending: PendingAnswer[Outcome] = PendingAnswer()

        def begin() -> None:
            failed = attempt(work, pending.give)
            if isinstance(failed, ServingError):
                pending.give(failed)

        if not self.submit(begin):
            return _stopping()
        return await self._answer_of(pending, client)

    def submit(self, work: Callable[[], None]) -> bool:
        """Have the executor do it; False where it takes no more work."""
        try:
            self._executor.submit(work)
        except RuntimeError:
            return False
        return True

    def lease(
        self,
        spec: ModelSpec,
        deadline: float | None,
        leased: Callable[[ServableHandle | ServingError], None],
    ) -> None:
        self._models.lease(spec, deadline, leased)

    def log(self, servable_id: ServableId, logged: Callable[[], LoggedCall]) -> None:
        """Log an answered call, where those of its model are logged and the sample has it."""
        logger = self._loggers.by_model.get(servable_id.name)
        if logger is not None and logger.is_sampled():
            logger.log(logged())

    async def _begin_in_company(
        self, call: _ModelCall, read: Callable[[], tuple[Call, Priority]]
    ) -> bool:
        """Have it begun here, stage by stage with others; False where a stop came before it, or
        before its answer.
        """
        is_stopped = False
        call.read(read)
        try:
            await _turn_of_others()
        except asyncio.CancelledError:
            return False
        call.begin_but_rest()
        try:
            await _turn_of_others()
        except asyncio.CancelledError:
            is_stopped = True
        finally:
            call.do_rest()
        return not is_stopped or call.stop()

    async def _answer_of(self, pending: PendingAnswer[Outcome], client: WaitingClient) -> Outcome:
        try:
            client.watch()
            return await pending.wait()
        except asyncio.CancelledError:
            client.cancel()  # the time to finish what was begun is over
            return _stopping()
        finally:
            client.answered()


class _ModelCall:
    """One call on its way: read, leased, run, written. Each step may be on another thread."""

    __slots__ = (
        "_calls",
        "_client",
        "_encode",
        "_keeps_rest",
        "_num_bytes",
        "_pending",
        "_request",
        "_rest",
        "_route",
        "_starter",
    )

    def __init__(
        self,
        calls: ModelCalls,
        route: Route,
        encode: Callable[[Content], Content],
        client: WaitingClient,
        pending: PendingAnswer[Outcome],
        *,
        num_bytes: float,
    ) -> None:
        self._calls = calls
        self._route = route
        self._num_bytes = num_bytes
        self._encode = encode
        self._client = client
        self._pending = pending
        self._starter = 0
        self._keeps_rest = False
        self._rest: Callable[[], None] | None = None

    def stop(self) -> bool:
        """Cancel it unless it is answered; whether it is."""
        if not self._pending.given:
            self._client.cancel()
        return self._pending.given

    def do_rest(self) -> None:
        """What has been left, if anything, on the thread that began."""
        rest, self._rest = self._rest, None  # which refers to this call
        if rest is not None:
            rest()

    def begin(self, read: Callable[[], tuple[Call, Priority]]) -> None:
        """All of it, on a thread of the executor."""
        self.read(read)
        self.begin_but_rest()
        self.do_rest()

    def read(self, read: Callable[[], tuple[Call, Priority]]) -> None:
        """The first stage."""
        self._request = attempt(read)

    def begin_but_rest(self) -> None:
        """The next one: without what this thread has to do after the run, see :meth:`do_rest`."""
        self._starter = threading.get_ident()
        self._keeps_rest = True
        self._begin()
        self._keeps_rest = False

    def _begin(self) -> None:
        if isinstance(self._request, ServingError):
            self._pending.give(self._request)
            return
        call, priority = self._request
        options = RunOptions(
            self._calls.deadline(),
            self._client,
            priority,
            self._route.verb.capitalize(),
            caller_may_wait=not self._pending.is_here,
        )

        def leased(handle: ServableHandle | ServingError) -> None:
            if isinstance(handle, ServingError):
                self._pending.give(handle)
            elif threading.get_ident() == self._starter:
                self._start(handle, call, options)
            else:  # the thread that a load has ended on
                is_large = self._num_bytes > _FEW_BYTES
                self._go_on(lambda: self._start(handle, call, options), is_large)

        self._calls.lease(self._route.spec, options.deadline, leased)

    def _start(self, handle: ServableHandle, call: Call, options: RunOptions) -> None:
        def answer(outcome: Writing | ServingError) -> None:
            amount = 0 if isinstance(outcome, ServingError) else outcome.amount
            self._go_on(lambda: self._finish(handle, outcome), amount > _LITTLE)

        failed = attempt(call, handle, options, answer)
        if isinstance(failed, ServingError):
            self._finish(handle, failed)

    def _finish(self, handle: ServableHandle, outcome: Writing | ServingError) -> None:
        if isinstance(outcome, ServingError):
            written: Outcome = outcome
        elif self._client.cancelled:
            written = Cancelled("the client has left")  # and nobody reads this
        else:
            written = attempt(self._written, outcome)
            if not isinstance(written, ServingError):
                self._calls.log(handle.id, outcome.logged)
        handle.release()
        self._pending.give(written)

    def _written(self, outcome: Writing) -> Content:
        return self._encode(outcome.write())

    def _go_on(self, work: Callable[[], None], is_large: bool) -> None:
        """Do it where nobody has to wait for it long: what called back has other work to do."""
        is_starter = threading.get_ident() == self._starter
        stays = is_starter and not (is_large and self._pending.is_here)
        if stays and self._keeps_rest:
            self._rest = work
        elif stays or self._client.cancelled:  # where nobody waits, the loop may be about to end
            work()
        elif not is_large:
            self._pending.on_loop(work)
        elif not self._calls.submit(work):  # shutting down: late, but still owed
            work()


@coroutine
def _turn_of_others() -> Generator[None, None, None]:
    """Let other requests come as far as this one: ``asyncio.sleep(0)``, in fewer steps."""
    yield


def _stopping() -> Unavailable:
    return Unavailable("the server is shutting down")
