"""The states of a loader: which steps are allowed, how loads are retried, what cancelling does."""

import errno
import os

import pytest

from serving.core.errors import (
    Cancelled,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ServingError,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId
from serving.managers.loader_harness import HarnessState, LoaderHarness, RetryPolicy
from serving.testing import FakeLoader

M1 = ServableId("m", 1)


def harness(loader: FakeLoader, retries: int = 0) -> LoaderHarness:
    return LoaderHarness(ServableData(M1, loader), RetryPolicy(retries, interval_seconds=60))


def approved(loader: FakeLoader, retries: int = 0) -> LoaderHarness:
    made = harness(loader, retries)
    made.request_load()
    made.approve_load()
    return made


def test_a_life_without_failure_passes_through_every_state() -> None:
    loader = FakeLoader()
    life = harness(loader)
    seen = [life.state]
    for step in (life.request_load, life.approve_load):
        step()
        seen.append(life.state)
    life.load(lambda _: seen.append(life.state))
    seen.append(life.state)
    for step in (
        life.request_unload,
        life.start_quiescing,
        life.done_quiescing,
        life.unload,
    ):
        step()
        seen.append(life.state)
    assert [state.value for state in seen] == [
        "new",
        "load-requested",
        "load-approved",
        "loading",
        "ready",
        "unload-requested",
        "quiescing",
        "quiesced",
        "disabled",
    ]
    assert (loader.attempts, loader.unloads) == (1, 1)


def test_a_version_that_arrived_with_an_error_is_in_error() -> None:
    error = InvalidArgument("bad path")
    life = LoaderHarness(ServableData(M1, error), RetryPolicy())
    assert (life.state, life.error) == (HarnessState.ERROR, error)


def test_a_second_load_request_is_refused() -> None:
    life = harness(FakeLoader())
    life.request_load()
    with pytest.raises(FailedPrecondition, match="Duplicate load request"):
        life.request_load()
    assert life.state is HarnessState.LOAD_REQUESTED


def test_an_unload_request_is_refused_unless_ready() -> None:
    life = harness(FakeLoader())
    with pytest.raises(FailedPrecondition, match="Servable not loaded, or unload already"):
        life.request_unload()
    assert life.state is HarnessState.NEW


def test_a_step_out_of_order_is_an_internal_error_and_ends_in_error() -> None:
    life = harness(FakeLoader())
    with pytest.raises(Internal) as raised:
        life.approve_load()
    assert raised.value.message == ("Illegal request to transition from state new to load-approved")
    assert life.state is HarnessState.ERROR


def test_a_failed_load_is_tried_again_until_it_succeeds() -> None:
    loader = FakeLoader(failures=[InvalidArgument("one"), InvalidArgument("two")])
    life = approved(loader, retries=5)
    for _ in range(2):
        assert not life.load(lambda _: None)
        assert (life.state, life.retry_seconds) == (HarnessState.LOAD_APPROVED, 60)
    assert life.load(lambda _: None)
    assert (life.state, loader.attempts) == (HarnessState.READY, 3)


def test_a_negative_interval_means_no_wait() -> None:
    life = LoaderHarness(ServableData(M1, FakeLoader()), RetryPolicy(1, interval_seconds=-1))
    assert life.retry_seconds == 0


def test_the_last_attempt_s_error_is_the_harness_s() -> None:
    loader = FakeLoader(failures=[InvalidArgument("first"), InvalidArgument("last")])
    life = approved(loader, retries=1)
    assert not life.load(lambda _: None)
    with pytest.raises(InvalidArgument, match="last"):
        life.load(lambda _: None)
    assert life.state is HarnessState.ERROR
    assert str(life.error) == "INVALID_ARGUMENT: last"


def test_an_unexpected_exception_keeps_its_details_from_the_state() -> None:
    life = approved(FakeLoader(failures=[RuntimeError("/secret/path")]))
    with pytest.raises(Internal):
        life.load(lambda _: None)
    assert str(life.error) == (
        "INTERNAL: loading servable {name: m version: 1} failed: RuntimeError"
    )


def test_after_cancelling_there_is_no_further_attempt() -> None:
    loader = FakeLoader(failures=[InvalidArgument("broken")] * 9)
    life = approved(loader, retries=5)
    assert not life.load(lambda _: None)
    life.cancel_load()
    with pytest.raises(Cancelled):
        life.load(lambda _: None)
    assert (loader.attempts, life.state) == (1, HarnessState.ERROR)


def test_cancelling_is_told_to_the_loader_which_may_end_early() -> None:
    told: list[str] = []

    class Told(FakeLoader):
        def cancel_load(self) -> None:
            told.append("cancelled")

    approved(Told()).cancel_load()
    assert told == ["cancelled"]


def test_a_load_that_succeeds_after_it_was_cancelled_is_undone() -> None:
    def cancel() -> None:
        life.cancel_load()

    loader = FakeLoader(before_load=cancel)
    life = approved(loader)
    offered: list[object] = []
    with pytest.raises(Cancelled, match="Loading of servable cancelled"):
        life.load(offered.append)
    assert (loader.unloads, offered, life.state) == (1, [], HarnessState.ERROR)


def test_a_failing_unload_ends_in_error() -> None:
    def explode() -> None:
        raise RuntimeError("no")

    life = approved(FakeLoader(before_unload=explode))
    life.load(lambda _: None)
    life.request_unload()
    life.start_quiescing()
    life.done_quiescing()
    with pytest.raises(Internal, match="unloading servable"):
        life.unload()
    assert life.state is HarnessState.ERROR


def test_no_load_without_an_approval() -> None:
    loader = FakeLoader()
    life = harness(loader)
    with pytest.raises(Internal, match="from state new to loading"):
        life.load(lambda _: None)
    assert (life.state, loader.attempts) == (HarnessState.ERROR, 0)


def test_a_second_approval_is_an_illegal_step() -> None:
    life = approved(FakeLoader())
    with pytest.raises(Internal, match="from state load-approved to load-approved"):
        life.approve_load()


def test_a_second_load_is_an_illegal_step_and_loads_nothing() -> None:
    loader = FakeLoader()
    life = approved(loader)
    life.load(lambda _: None)
    with pytest.raises(Internal, match="from state ready to loading"):
        life.load(lambda _: None)
    assert loader.attempts == 1


def test_a_second_unload_request_is_refused() -> None:
    life = approved(FakeLoader())
    life.load(lambda _: None)
    life.request_unload()
    with pytest.raises(FailedPrecondition, match="unload already requested/ongoing"):
        life.request_unload()
    assert life.state is HarnessState.UNLOAD_REQUESTED


def test_quiescing_twice_is_an_illegal_step() -> None:
    life = approved(FakeLoader())
    life.load(lambda _: None)
    life.request_unload()
    life.start_quiescing()
    with pytest.raises(Internal, match="from state quiescing to quiescing"):
        life.start_quiescing()


def test_an_error_from_outside_ends_every_life() -> None:
    error = InvalidArgument("from outside")
    life = harness(FakeLoader())
    life.fail(error)
    assert (life.state, life.error) == (HarnessState.ERROR, error)


def test_nothing_is_loaded_after_a_cancelled_load() -> None:
    loader = FakeLoader()
    life = approved(loader)
    life.cancel_load()
    with pytest.raises(Cancelled):
        life.load(lambda _: None)
    with pytest.raises(FailedPrecondition, match="Duplicate load request"):
        life.request_load()
    assert loader.attempts == 0


@pytest.mark.parametrize(
    ("raised", "reason"),
    [
        (SystemExit(3), "SystemExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (GeneratorExit(), "GeneratorExit"),
        (MemoryError(), "MemoryError"),
        (RecursionError("/secret"), "RecursionError"),
        (OSError(errno.EIO, "/secret"), "OSError (Input/output error)"),
        (OSError("/secret"), "OSError"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_whatever_a_loader_raises_ends_in_error(raised: BaseException, reason: str) -> None:
    life = approved(FakeLoader(failures=[raised]))
    with pytest.raises(Internal):
        life.load(lambda _: None)
    assert life.state is HarnessState.ERROR
    assert str(life.error) == (
        f"INTERNAL: loading servable {{name: m version: 1}} failed: {reason}"
    )


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EACCES, "PERMISSION_DENIED: {} failed: PermissionError (Permission denied)"),
        (errno.ENOSPC, "RESOURCE_EXHAUSTED: {} failed: OSError (No space left on device)"),
        (errno.EROFS, "FAILED_PRECONDITION: {} failed: OSError (Read-only file system)"),
    ],
)
def test_what_an_operator_can_mend_is_logged_in_one_line(
    number: int, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With the path, which clients are not shown."""
    life = approved(FakeLoader(failures=[OSError(number, os.strerror(number), "/secret")]))
    with pytest.raises(ServingError):
        life.load(lambda _: None)
    assert str(life.error) == expected.format("loading servable {name: m version: 1}")
    assert caplog.text.count("\n") == 1
    assert "/secret" in caplog.text


def test_what_can_not_be_made_available_is_unloaded_again() -> None:
    def refuse(_: object) -> None:
        raise InvalidArgument("no room")

    loader = FakeLoader()
    life = approved(loader)
    with pytest.raises(InvalidArgument, match="no room"):
        life.load(refuse)
    assert (loader.unloads, life.state) == (1, HarnessState.ERROR)


class Forgetful(FakeLoader):
    """Can not tell what it needs before it was asked so often."""

    def __init__(self, misses: int) -> None:
        super().__init__()
        self.misses = misses

    def estimate_resources(self) -> ResourceAllocation:
        self.misses -= 1
        if self.misses >= 0:
            raise InvalidArgument("not yet")
        return ResourceAllocation.ram(7)


def test_an_estimate_that_fails_counts_as_an_attempt_to_load() -> None:
    life = harness(Forgetful(2), retries=2)
    assert [life.estimate_resources() for _ in range(2)] == [None, None]
    assert life.estimate_resources() == ResourceAllocation.ram(7)
    life = harness(Forgetful(3), retries=2)
    assert [life.estimate_resources() for _ in range(2)] == [None, None]
    with pytest.raises(InvalidArgument, match="not yet"):
        life.estimate_resources()
