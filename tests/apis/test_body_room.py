"""The bodies of all REST requests together have a bound, and it is kept to the byte."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor, Future

import pytest
from fake_models import FakeModels
from rest_exchange import ask, exchange

from serving.apis.tensorflow_serving.rest.body import BodyRoom, HeldBody, receive_body
from serving.apis.tensorflow_serving.rest.rest_api import RestApi, RestOptions
from serving.core.errors import RequestTooLarge, Unavailable
from serving.testing import FakeServable, InlineExecutor

TARGET = "/v1/models/m:predict"
BODY = b'{"instances": [1.0, 2.0]}'
ROOM = 100
MAX_BYTES = 80


def api(executor: Executor | None = None) -> RestApi:
    options = RestOptions(max_body_bytes=MAX_BYTES, max_total_body_bytes=ROOM)
    executor = executor or InlineExecutor()
    return RestApi(FakeModels(FakeServable()), executor=executor, options=options)


class Waiting(Executor):
    """Does nothing until it is told to."""

    def __init__(self) -> None:
        self.work: list = []

    def submit(self, fn, /, *args, **kwargs) -> Future:
        self.work.append(lambda: fn(*args, **kwargs))
        return Future()


def receiving(*messages):
    """Gives the messages; an exception among them is raised."""
    left = list(messages)

    async def receive():
        message = left.pop(0)
        if isinstance(message, BaseException):
            raise message
        return message

    return receive


def chunk(num_bytes: int, *, more: bool = True):
    return {"type": "http.request", "body": bytes(num_bytes), "more_body": more}


LEFT = {"type": "http.disconnect"}


@pytest.mark.parametrize(
    ("messages", "raises"),
    [
        ([chunk(30), chunk(30, more=False)], None),
        ([chunk(30), LEFT], None),
        ([LEFT], None),
        ([chunk(30), asyncio.CancelledError()], asyncio.CancelledError),
        ([chunk(30), TimeoutError()], TimeoutError),
        ([chunk(50), chunk(31)], RequestTooLarge),
        ([chunk(50), chunk(11)], Unavailable),
    ],
    ids=["whole", "left", "left at once", "cancelled", "timeout", "too large", "no room"],
)
def test_however_a_body_ends_its_room_is_given_back(messages, raises):
    room = BodyRoom(ROOM)
    room.take(40)
    received = []

    async def receive_one():
        with HeldBody(room) as held:
            received.append(await receive_body(receiving(*messages), {}, MAX_BYTES, held))
            if received[0] is not None:
                assert room.num_bytes == 40 + len(received[0])

    if raises:
        with pytest.raises(raises):
            asyncio.run(receive_one())
    else:
        asyncio.run(receive_one())
    assert room.num_bytes == 40


def test_room_is_had_up_to_the_last_byte():
    room = BodyRoom(ROOM)
    room.take(ROOM)
    room.take(0)
    with pytest.raises(Unavailable):
        room.take(1)
    assert room.num_bytes == ROOM


@pytest.mark.parametrize(
    "headers", [{"Content-Encoding": "gzip"}, {"Content-Encoding": "gzip", "Content-Length": "25"}]
)
def test_bodies_count_until_their_requests_are_answered(headers):
    """Those beyond the bound are told to come again, and may when one has been answered."""
    executor = Waiting()  # what is compressed is worked on there

    async def run():
        rest = api(executor)
        first = [
            asyncio.create_task(exchange(rest, "POST", TARGET, [BODY], headers)) for _ in range(4)
        ]
        while len(executor.work) < 4:
            await asyncio.sleep(0)
        refused = await exchange(rest, "POST", TARGET, [BODY], headers)
        for work in executor.work:
            work()
        answered = [(await task).status for task in first]
        again = asyncio.create_task(exchange(rest, "POST", TARGET, [BODY], headers))
        while len(executor.work) < 5:
            await asyncio.sleep(0)
        executor.work[4]()
        return refused, answered, await again

    refused, answered, again = asyncio.run(run())
    assert refused.status == 503
    assert refused.headers["retry-after"] == "1"
    assert json.loads(refused.body) == {
        "error": "The server has no room for this request body: it holds 100 of at most 100 bytes "
        "of others. Try again later."
    }
    assert refused.received == (0 if "Content-Length" in headers else 1)
    assert answered == [400] * 4  # as it is no gzip
    assert again.status == 400


def test_other_calls_are_answered_where_there_is_no_room():
    executor = Waiting()

    async def run():
        rest = api(executor)
        headers = {"Content-Encoding": "gzip"}
        held = asyncio.create_task(exchange(rest, "POST", TARGET, [bytes(80)], headers))
        while not executor.work:
            await asyncio.sleep(0)
        small = await exchange(rest, "POST", TARGET, [b'{"instances": [1]}'], {})
        status = await exchange(rest, "GET", "/v1/models", [], {})
        executor.work[0]()
        await held
        return small.status, status.status

    assert asyncio.run(run()) == (200, 200)


def test_one_after_another_any_number_of_bodies_is_taken():
    rest = api()
    for _ in range(20):
        assert ask(rest, "POST", TARGET, BODY).status == 200
        assert ask(rest, "POST", TARGET, [b" " * 50] * 9).status == 413
