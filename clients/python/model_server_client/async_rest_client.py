"""A client over TensorFlow Serving's REST API for programs with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

import httpx

from model_server_client import rest_json
from model_server_client.errors import ServerError
from model_server_client.models import ModelSpec, Prediction, Signature, VersionStatus
from model_server_client.rest_call import RestCall, checked_url, failure, transport_errors
from model_server_client.rest_signatures import KnownSignatures
from model_server_client.retries import USUAL, Retries

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class AsyncRestClient:
    """As RestClient, for the event loop in which it is used; ``http`` is httpx's AsyncClient.

    ``timeout`` bounds a whole call. Close it, or use it as an asynchronous context manager.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retries: Retries = USUAL,
        http: httpx.AsyncClient | None = None,
    ) -> None:
        self._url = checked_url(url)
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.AsyncClient() if http is None else http
        self._owns_http = http is None
        self._known = KnownSignatures()

    async def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        timeout: float | None = None,
    ) -> Prediction:
        """As RestClient.predict."""
        spec = ModelSpec(model, version, label, signature)
        call = self._new_call(timeout)
        body = rest_json.predict_body(inputs, signature)
        answer = await self._send(call, "POST", f"{rest_json.model_path(spec)}:predict", body)
        known = self._known.of(spec)
        if known is not None:
            with suppress(ServerError):  # the model has got another signature since
                return Prediction(rest_json.outputs_of(answer, known), spec)
        known = self._known.learn(spec, await self._signatures(call, spec))
        return Prediction(rest_json.outputs_of(answer, known), spec)

    async def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """As RestClient.status."""
        path = rest_json.model_path(ModelSpec(model, version, label))
        return rest_json.statuses_of(await self._send(self._new_call(timeout), "GET", path))

    async def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """As RestClient.signatures."""
        return await self._signatures(self._new_call(timeout), ModelSpec(model, version, label))

    async def close(self) -> None:
        """Closes the connections, unless they are those of the ``http`` that was given."""
        if self._owns_http:
            await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _new_call(self, timeout: float | None) -> RestCall:
        return RestCall(self._timeout if timeout is None else timeout, self._retries)

    async def _signatures(self, call: RestCall, spec: ModelSpec) -> dict[str, Signature]:
        path = f"{rest_json.model_path(spec)}/metadata"
        return rest_json.signatures_of(await self._send(call, "GET", path))

    async def _send(self, call: RestCall, verb: str, path: str, body: bytes = b"") -> bytes:
        while True:
            retry_after = None
            try:
                with transport_errors():
                    async with asyncio.timeout(call.remaining()):
                        response = await self._http.request(
                            verb, self._url + path, content=body or None, timeout=None
                        )
                error = failure(response, response.content)
                if error is None:
                    return response.content
                retry_after = response.headers.get("retry-after")
            except ServerError as unreachable:
                error = unreachable
            await asyncio.sleep(call.wait_after(error, retry_after))
