"""Servables of platforms that are added: whatever they do, every run is answered, once."""

from __future__ import annotations

import logging

import numpy as np
import pytest

from serving.core.errors import Internal, InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import RunOptions, max_runs_of
from serving.core.servable_id import ServableId
from serving.loaders.guarded_platform import GuardedPlatform
from serving.loaders.platforms import AddedPlatform, Platforms
from serving.testing import FakeServable

M1 = ServableId("m", 1)
FEEDS = {"x:0": np.float32([2])}
RAM = ResourceAllocation.ram(7)


class Faulty(FakeServable):
    """Its runs are what the test says."""

    def __init__(self, run):
        super().__init__()
        self._faulty_run = run

    max_runs = 2

    def run(self, feeds, fetches, options, done):
        self._faulty_run(done)


class FaultyPlatform:
    def __init__(self, run=None):
        self.servable = Faulty(run)

    def estimate(self, path):
        return RAM

    def load(self, servable_id, path, device=None):
        return self.servable


def outcomes(run) -> list:
    """What a run is answered with."""
    servable = GuardedPlatform(FaultyPlatform(run)).load(M1, "/m/1")
    found: list = []
    servable.run(FEEDS, ["y:0"], RunOptions(), found.append)
    return found


def raising(_done):
    raise KeyError("secret")


@pytest.mark.parametrize(
    "run",
    [
        raising,
        lambda done: done(None),
        lambda done: done([[1.0, 2.0]]),
        lambda done: done([np.float32([1]), 2]),
        lambda done: done({"y:0": np.float32([1])}),
    ],
)
def test_what_is_no_answer_becomes_internal_without_its_text(run, caplog):
    caplog.set_level(logging.ERROR)
    (outcome,) = outcomes(run)
    assert isinstance(outcome, Internal)
    assert outcome.message == "the run failed unexpectedly"
    assert "a run of {name: m version: 1}" in caplog.text


def test_answers_and_errors_pass_through():
    answer, error = [np.float32([1])], InvalidArgument("no")
    assert outcomes(lambda done: done(answer)) == [answer]
    assert outcomes(lambda done: done(error)) == [error]


def test_only_the_first_answer_counts(caplog):
    def twice(done):
        done([np.float32([1])])
        done([np.float32([2])])

    ((first,),) = outcomes(twice)
    assert first.tolist() == [1]
    assert "answered a run that it had answered before" in caplog.text


def test_what_the_receiver_raises_is_not_the_servables_fault():
    """Nor is the receiver called again."""
    heard: list = []

    def receiver(outcome):
        heard.append(outcome)
        raise ZeroDivisionError

    servable = GuardedPlatform(FaultyPlatform(lambda done: done([]))).load(M1, "/m/1")
    with pytest.raises(ZeroDivisionError):
        servable.run(FEEDS, [], RunOptions(), receiver)
    assert heard == [[]]


def test_everything_else_is_the_platforms_own():
    inner = FaultyPlatform()
    guarded = GuardedPlatform(inner)
    servable = guarded.load(M1, "/m/1")
    assert guarded.estimate("/m/1") == RAM
    assert servable.signatures is inner.servable.signatures
    assert max_runs_of(servable) == 2
    servable.close()
    assert inner.servable.closed


class RaisingPlatform(FaultyPlatform):
    def __init__(self):
        super().__init__(raising)


def test_platforms_that_are_added_are_guarded():
    added = {"own": AddedPlatform(f"{__name__}:RaisingPlatform")}
    servable = Platforms({}, added=added).get("own").load(M1, "/m/1")
    found: list = []
    servable.run(FEEDS, ["y:0"], RunOptions(), found.append)
    assert [type(outcome) for outcome in found] == [Internal]
    assert not isinstance(Platforms({}).get("hashmap"), GuardedPlatform)
