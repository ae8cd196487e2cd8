"""Calls of gRPC methods: counted by how they end, however that is."""

from __future__ import annotations

import pytest

from serving.core.call import CallContext, WithMetadata
from serving.core.cancellation import Cancellation
from serving.core.errors import Code, NotFound, ServingError, Unavailable
from serving.metrics.registry import Metrics
from serving.monitoring.rpc_metrics import RpcMetrics

METHOD = "some.Service/Do"


class Calls:
    """A method that is called, and what its metrics say."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self.replies: list[object] = []
        self.handle = RpcMetrics(self.metrics).measured(f"/{METHOD}", self._handler)
        self.outcome: object = None
        self.context = CallContext()

    def _handler(self, request, context, reply) -> None:
        self.reply = reply
        if isinstance(self.outcome, Exception):
            raise self.outcome

    def call(self) -> None:
        self.handle(b"", self.context, self.replies.append)

    def counts(self) -> dict[str, int]:
        cells = self.metrics.snapshot()["model_server_rpc_duration_seconds"].cells
        counted = {labels: sum(cell.counts) for labels, cell in cells.items()}
        assert {method for method, _ in counted} == {METHOD}
        return {code: count for (_, code), count in counted.items() if count}

    def in_progress(self) -> int:
        return self.metrics.snapshot()["model_server_rpcs_in_progress"].cells[(METHOD,)]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"x", "OK"),
        (b"", "OK"),
        (NotFound("no"), "NOT_FOUND"),
        (WithMetadata(b"x", ()), "OK"),
        (WithMetadata(NotFound("no"), ()), "NOT_FOUND"),
    ],
)
def test_a_call_is_in_progress_until_it_is_answered(
    answer: bytes | ServingError | WithMetadata, code: str
):
    calls = Calls()
    calls.call()
    assert (calls.counts(), calls.in_progress()) == ({}, 1)
    calls.reply(answer)
    assert (calls.counts(), calls.in_progress()) == ({code: 1}, 0)
    assert calls.replies == [answer]


@pytest.mark.parametrize(
    ("error", "code"), [(Unavailable("no"), "UNAVAILABLE"), (KeyError("defect"), "INTERNAL")]
)
def test_what_a_handler_raises_is_its_answer(error: Exception, code: str):
    calls = Calls()
    calls.outcome = error
    with pytest.raises(type(error)):
        calls.call()
    assert (calls.counts(), calls.in_progress()) == ({code: 1}, 0)
    assert calls.replies == []


@pytest.mark.parametrize(("deadline", "code"), [(0.0, "DEADLINE_EXCEEDED"), (None, "CANCELLED")])
def test_a_call_that_was_given_up_counts_as_such_however_its_run_ends(deadline, code: str):
    calls = Calls()
    cancellation = Cancellation()
    calls.context = CallContext(deadline, cancellation=cancellation)
    calls.call()
    cancellation.cancel()
    calls.reply(b"late")
    assert (calls.counts(), calls.in_progress()) == ({code: 1}, 0)


def test_a_method_that_was_never_called_is_there_with_zero():
    """So that a rate can be told from the first call on."""
    calls = Calls()
    cells = calls.metrics.snapshot()["model_server_rpc_duration_seconds"].cells
    assert {labels: sum(cell.counts) for labels, cell in cells.items()} == {(METHOD, "OK"): 0}


def test_a_call_without_a_handler_is_in_progress_until_it_is_told_to_have_ended():
    metrics = Metrics()
    counting = RpcMetrics(metrics)
    stream, unknown = counting.begun("/some.Service/Watch"), counting.begun("")
    in_progress = metrics.snapshot()["model_server_rpcs_in_progress"]
    assert in_progress.cells == {("(other)",): 1, ("some.Service/Watch",): 1}
    stream(Code.OK)
    unknown(Code.UNIMPLEMENTED)
    families = metrics.snapshot()
    assert set(families["model_server_rpcs_in_progress"].cells.values()) == {0}
    counted = families["model_server_rpc_duration_seconds"].cells
    assert {labels: sum(cell.counts) for labels, cell in counted.items()} == {
        ("(other)", "UNIMPLEMENTED"): 1,
        ("some.Service/Watch", "OK"): 1,
    }
