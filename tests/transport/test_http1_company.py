"""Requests that come together are worked on stage by stage, and as tasks once they wait."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest

from serving.transport.http1_company import Company

STAGES = 3
NAME = ContextVar("name", default="")


async def staged(name, done):
    NAME.set(name)
    for stage in range(STAGES):
        done.append((stage, NAME.get()))
        await asyncio.sleep(0)


async def all_have_ended(company, works):
    """What each has raised, once all have ended."""
    raised = [asyncio.get_running_loop().create_future() for _ in works]
    for work, ended in zip(works, raised, strict=True):
        company.join(work, ended.set_result)
    assert not any(future.done() for future in raised)
    return await asyncio.gather(*raised)


def test_each_stage_of_all_comes_before_the_next_of_any_each_in_a_context_of_its_own():
    async def together():
        company, done = Company(), []
        await all_have_ended(company, [staged(name, done) for name in "abc"])
        assert done == [(stage, name) for stage in range(STAGES) for name in "abc"]
        assert NAME.get() == ""

    asyncio.run(together())


def test_what_waits_goes_on_as_a_task_in_the_context_it_had():
    async def run():
        company, opened, seen = Company(), asyncio.Event(), []

        async def wait(name):
            NAME.set(name)
            seen.append(asyncio.current_task())
            await opened.wait()
            await asyncio.sleep(0)
            async with asyncio.timeout(60):
                seen.append(asyncio.current_task())
            seen.append(NAME.get())

        async def open_later():
            while not company.tasks:
                await asyncio.sleep(0)
            opened.set()

        opening = asyncio.ensure_future(open_later())
        assert await all_have_ended(company, [wait("a")]) == [None]
        await opening
        before, task, name = seen
        assert before is None
        assert task is not None
        assert name == "a"
        await asyncio.sleep(0)
        assert not company.tasks

    asyncio.run(run())


@pytest.mark.parametrize("waits", [False, True])
def test_what_one_raises_is_told_and_hurts_no_other(waits):
    async def fail():
        if waits:
            await asyncio.sleep(0.001)
        raise ValueError("a")

    async def run():
        done = []
        raised, none = await all_have_ended(Company(), [fail(), staged("b", done)])
        assert isinstance(raised, ValueError)
        assert none is None
        assert len(done) == STAGES

    asyncio.run(run())


def test_what_waits_may_be_cancelled_and_have_last_words():
    async def run():
        company, said = Company(), []

        async def wait():
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.001)
                said.append("last words")

        async def cancel():
            while not company.tasks:
                await asyncio.sleep(0)
            for task in company.tasks:
                task.cancel()

        cancelling = asyncio.ensure_future(cancel())
        (raised,) = await all_have_ended(company, [wait()])
        await cancelling
        assert isinstance(raised, asyncio.CancelledError)
        assert said == ["last words"]

    asyncio.run(run())
