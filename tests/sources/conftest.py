"""Stores that the tests of remote models share."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from remote_stores import CuttingProxy, WebServer, s3_environment, s3_server


@dataclass
class S3:
    """A bucket of its own for each test, and the proxy that the server under test reads it by."""

    name: str
    bucket: Any
    client: Any
    proxy: CuttingProxy

    def uri(self, path: str) -> str:
        return f"s3://{self.name}/{path}"


@dataclass
class S3Server:
    endpoint: str
    client: Any
    resource: Any


@pytest.fixture(scope="session")
def s3_running() -> Iterator[S3Server]:
    with s3_server() as endpoint:
        session = boto3.session.Session("key", "secret", region_name="us-east-1")
        client = session.client("s3", endpoint_url=endpoint)
        yield S3Server(endpoint, client, session.resource("s3", endpoint_url=endpoint))
        client.close()


@pytest.fixture
def s3(s3_running: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    proxy = CuttingProxy(s3_running.endpoint)
    name = f"models-{uuid.uuid4()}"
    s3_running.client.create_bucket(Bucket=name)
    with s3_environment(monkeypatch, proxy.url):
        yield S3(name, s3_running.resource.Bucket(name), s3_running.client, proxy)
    proxy.close()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()
