"""HTTP/2 over real connections, by the engine that speaks it."""

from __future__ import annotations

import asyncio
import contextlib
import ssl

import h2.events
import httpx
import pytest
from certificates import Authority
from http2_client import raw_client
from hypercorn.config import Config
from waiting import WAIT_SECONDS

from serving.transport.http_options import HTTPTOOLS, HYPERCORN, HttpOptions
from serving.transport.http_server import HttpServer
from serving.transport.tls import Certificate, TlsOptions


async def echo(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    body += scope["http_version"].encode()
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("authority"))


@contextlib.contextmanager
def serving(engine, certificate=None, app=echo):
    server = HttpServer(HttpOptions("127.0.0.1", 0, engine=engine), app, certificate=certificate)
    server.start()
    try:
        yield server.port
    finally:
        server.stop(0)


@contextlib.contextmanager
def encrypted(engine, authority):
    """A client and the address of a server that shows a certificate which the client trusts."""
    pair = authority.issue("server")
    certificate = Certificate(TlsOptions(pair.key, pair.cert))
    trust = ssl.create_default_context(cafile=authority.cert_file)
    with (
        serving(engine, certificate) as port,
        httpx.Client(http2=True, verify=trust, timeout=WAIT_SECONDS) as client,
    ):
        yield client, f"https://localhost:{port}/", certificate


def test_http2_is_spoken_without_tls_with_clients_that_begin_so():
    with (
        serving(HYPERCORN) as port,
        httpx.Client(http1=False, http2=True, timeout=WAIT_SECONDS) as client,
    ):
        answer = client.post(f"http://127.0.0.1:{port}/", content=bytes(2**20))
    assert (answer.http_version, len(answer.content)) == ("HTTP/2", 2**20 + 1)


@pytest.mark.parametrize(("engine", "version"), [(HYPERCORN, "HTTP/2"), (HTTPTOOLS, "HTTP/1.1")])
def test_with_tls_client_and_server_agree_on_the_best_that_both_speak(authority, engine, version):
    with encrypted(engine, authority) as (client, url, _):
        answer = client.post(url, content=b"x")
    assert answer.http_version == version


def test_they_agree_on_the_same_with_a_renewed_certificate(authority):
    with encrypted(HYPERCORN, authority) as (client, url, certificate):
        pair = authority.issue("server")
        certificate.replace(TlsOptions(pair.key, pair.cert))
        assert client.post(url, content=b"x").http_version == "HTTP/2"


def test_a_connection_carries_many_requests_at_the_same_time():
    async def ask(port):
        async with httpx.AsyncClient(http1=False, http2=True, timeout=WAIT_SECONDS) as client:
            url = f"http://127.0.0.1:{port}/"
            answers = await asyncio.gather(
                *(client.post(url, content=b"%d," % number) for number in range(64))
            )
        return [answer.content for answer in answers]

    with serving(HYPERCORN) as port:
        assert asyncio.run(ask(port)) == [b"%d,2" % number for number in range(64)]


def test_a_connection_lasts_however_many_requests_it_has_carried(monkeypatch):
    """Left alone, hypercorn would end it after some, and drop those that are being answered."""
    monkeypatch.setattr(Config, "keep_alive_max_requests", 3)
    with (
        serving(HYPERCORN) as port,
        httpx.Client(http1=False, http2=True, timeout=WAIT_SECONDS) as client,
    ):
        for _ in range(8):
            answer = client.post(f"http://127.0.0.1:{port}/", content=b"x")
            (stream,) = {answer.extensions["stream_id"]}
    assert stream == 15  # the eighth of one connection


async def echo_or_refuse(scope, receive, send):
    """Does not look at bodies that are not echoed."""
    if scope["path"] == "/echo":
        await echo(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 413, "headers": []})
    await send({"type": "http.response.body", "body": b"too large"})


def test_a_body_that_goes_on_after_its_refusal_ends_no_other_request():
    """In many small pieces before, too: more than hypercorn keeps for the app."""
    with serving(HYPERCORN, app=echo_or_refuse) as port, raw_client(port) as client:
        other, refused = client.open("/echo"), client.open("/refused")
        for _ in range(100):
            client.http2.send_data(refused, b"x")
        client.flush()
        answers: dict = {other: b"", refused: b""}
        statuses = {}
        for event in client.events():
            stream = getattr(event, "stream_id", None)
            if isinstance(event, h2.events.ResponseReceived):
                statuses[stream] = dict(event.headers)[":status"]
            elif isinstance(event, h2.events.DataReceived):
                answers[stream] += event.data
            elif isinstance(event, h2.events.StreamEnded) and stream == other:
                break
            if answers == {other: b"", refused: b"too large"}:
                client.http2.send_data(refused, b"x" * 1000)
                client.http2.send_data(refused, b"x", end_stream=True)
                client.http2.send_data(other, b"whole", end_stream=True)
                client.flush()
                answers[other] = b"echoed "
    assert statuses == {other: "200", refused: "413"}
    assert answers[other] == b"echoed whole2"
