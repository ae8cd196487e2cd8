"""Small requests that arrive together are worked on stage by stage, and one alone at once."""

from __future__ import annotations

import asyncio

from serving.apis.tensorflow_serving.rest.company import Company, turn_of_others

STAGES = 3


async def request(company, name, done):
    with company:
        for stage in range(STAGES):
            done.append((stage, name))
            if company.may_be_met:
                await turn_of_others()


def test_each_stage_of_all_comes_before_the_next_stage_of_any():
    async def together():
        company, done = Company(), []
        for _ in range(2):  # the second time some have been alone before
            done.clear()
            await asyncio.gather(*(request(company, name, done) for name in "abc"))
            assert done == [(stage, name) for stage in range(STAGES) for name in "abc"]

    asyncio.run(together())


def test_who_has_long_been_alone_waits_for_nobody_but_now_and_then():
    async def alone():
        company, waited = Company(), []
        for _ in range(100):
            passed = []
            asyncio.get_running_loop().call_soon(passed.append, True)
            await request(company, "a", [])
            waited.append(bool(passed))
            await asyncio.sleep(0)
        assert not any(waited[2:10])
        assert any(waited[2:])

    asyncio.run(alone())


def test_those_who_come_after_one_was_alone_for_long_are_together_soon():
    async def rush():
        company, done = Company(), []
        for _ in range(100):
            await request(company, "a", [])
        for _ in range(100):
            done.clear()
            await asyncio.gather(*(request(company, name, done) for name in "ab"))
        assert done == [(stage, name) for stage in range(STAGES) for name in "ab"]

    asyncio.run(rush())
