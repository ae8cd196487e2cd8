"""What the tests of the REST gateway ask, and the models that answer."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from rest_exchange import exchange

from serving.core.dtypes import DType
from serving.core.errors import (
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving.core.models import Leased, ModelSpec
from serving.core.servable import DEFAULT_SIGNATURE, Signature, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.testing import FakeServable


def info(alias: str, dtype: DType) -> TensorInfo:
    return TensorInfo(f"{alias}:0", dtype, (None,))


def signature(inputs: Mapping[str, DType], outputs: Mapping[str, DType], method: str) -> Signature:
    return Signature(
        {alias: info(alias, dtype) for alias, dtype in inputs.items()},
        {alias: info(alias, dtype) for alias, dtype in outputs.items()},
        f"tensorflow/serving/{method}",
    )


SIGNATURES = {
    DEFAULT_SIGNATURE: signature({"x": DType.FLOAT}, {"y": DType.FLOAT}, "predict"),
    "both": signature(
        {"x": DType.FLOAT, "s": DType.STRING},
        {"y": DType.FLOAT, "s_bytes": DType.STRING},
        "predict",
    ),
    "half": signature({"h": DType.HALF}, {"y": DType.FLOAT}, "predict"),
    "to_half": signature({"x": DType.FLOAT}, {"h": DType.HALF}, "predict"),
    "sum": signature({"x": DType.FLOAT}, {"sum": DType.FLOAT}, "predict"),
    "nothing": signature({}, {"y": DType.FLOAT}, "predict"),
    "classify": signature(
        {"inputs": DType.STRING},
        {"classes": DType.STRING, "scores": DType.FLOAT},
        "classify",
    ),
    "regress": signature({"inputs": DType.STRING}, {"outputs": DType.FLOAT}, "regress"),
    "odd_method": signature({"x": DType.FLOAT}, {"y": DType.FLOAT}, "other"),
}


def compute(feeds: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    if "inputs:0" in feeds:
        sizes = np.array([len(example) for example in feeds["inputs:0"]], np.float32)
        labels = np.full((len(sizes), 1), b"size", object)
        return {
            "classes:0": labels,
            "scores:0": sizes.reshape(-1, 1),
            "outputs:0": sizes,
        }
    x = feeds["x:0"]
    return {
        "y:0": x / 2 + 2,
        "h:0": x.astype(np.float16),
        "sum:0": x.sum(dtype=np.float32),
        "s_bytes:0": feeds.get("s:0"),
    }


class Failing(FakeServable):
    """Fails every run with one error, or breaks."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self._error = error

    def run(self, feeds, fetches, options, done):
        if not isinstance(self._error, ServingError):
            raise self._error
        done(self._error)


class Elsewhere(FakeServable):
    """Completes each run on a thread of its own, as a batch does; remembers the options."""

    options = None

    def run(self, feeds, fetches, options, done):
        self.options = options
        run = super().run
        thread = threading.Thread(target=lambda: run(feeds, fetches, options, done))
        thread.start()
        thread.join()


class FakeModels:
    """Models by name, version 123; counts what is lent and not yet given back."""

    def __init__(self, **servables: object) -> None:
        self.servables = servables
        self.leases: list[ModelSpec] = []
        self.lent = 0

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        self.leases.append(spec)
        try:
            handle = self._lease(spec)
        except ServingError as error:
            handle = error
        leased(handle)

    def _lease(self, spec: ModelSpec) -> ServableHandle:
        if spec.version_label not in (None, "stable"):
            raise InvalidArgument(f"Unrecognized servable version label: {spec.version_label}")
        if spec.name not in self.servables:
            raise NotFound(f"Servable not found for request: Latest({spec.name})")
        if spec.version not in (None, 123):
            raise NotFound(f"Servable not found for request: Specific({spec.name}, {spec.version})")
        self.lent += 1
        return ServableHandle(ServableId(spec.name, 123), self.servables[spec.name], self._release)

    def _release(self, handle: ServableHandle) -> None:
        self.lent -= 1

    def versions(self, name: str) -> list[ServableState]:
        if name not in self.servables:
            return []
        broken = Internal('no "op"')
        return [
            ServableState(ServableId(name, 124), ManagerState.END, broken),
            ServableState(ServableId(name, 123), ManagerState.AVAILABLE),
        ]

    def names(self) -> list[str]:
        return list(self.servables)

    def begin_reload(self, configs, done) -> None:
        raise AssertionError("the REST API has no reload")


@dataclass
class Response:
    status: int
    headers: dict[str, str]
    body: str


async def asgi_exchange(api, method, target, body, headers) -> Response:
    middle = len(body) // 2
    answer = await exchange(api, method, target, [body[:middle], body[middle:]], headers)
    text = answer.body.decode("utf-8", "surrogateescape")
    return Response(answer.status, answer.headers, text)


def ask(api, method, target, body="", headers=None) -> Response:
    data = body if isinstance(body, bytes) else body.encode()
    return asyncio.run(asgi_exchange(api, method, target, data, headers or {}))


def error_body(message: str) -> str:
    return f'{{\n    "error": {json.dumps(message, ensure_ascii=False)}\n}}'


REQUEST = b'{"instances": [1.0, 2.0, 5.0]}'
