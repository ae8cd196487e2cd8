"""A client over TensorFlow Serving's REST API for programs with threads."""

from __future__ import annotations

import time
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


class RestClient:
    """Asks a Model Server or a TensorFlow Serving at ``url``, as ``http://localhost:8501``.

    Every call raises ServerError where it ends without a result. ``timeout`` is in seconds, over
    all attempts of a call; a server that goes silent may be waited for as long again. ``http``
    is a client of httpx with certificates, headers or proxies of one's own, which stays open when
    this one is closed. JSON does not say the types of outputs, nor the name of an only one: the
    first prediction with a signature asks the server for them. All methods may be called by
    several threads at once. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 30.0,
        retries: Retries = USUAL,
        http: httpx.Client | None = None,
    ) -> None:
        self._url = checked_url(url)
        self._timeout = timeout
        self._retries = retries
        self._http = httpx.Client() if http is None else http
        self._owns_http = http is None
        self._known = KnownSignatures()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        timeout: float | None = None,
    ) -> Prediction:
        """What ``model`` computes from ``inputs``: arrays, or anything numpy makes one of.

        Raises ServerError; ValueError for a version and a label at once; TypeError for elements
        that JSON cannot say.
        """
        spec = ModelSpec(model, version, label, signature)
        call = self._new_call(timeout)
        body = rest_json.predict_body(inputs, signature)
        answer = self._send(call, "POST", f"{rest_json.model_path(spec)}:predict", body)
        known = self._known.of(spec)
        if known is not None:
            with suppress(ServerError):  # the model has got another signature since
                return Prediction(rest_json.outputs_of(answer, known), spec)
        known = self._known.learn(spec, self._signatures(call, spec))
        return Prediction(rest_json.outputs_of(answer, known), spec)

    def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """Where the versions of ``model`` are in their lives; NOT_FOUND where there is none."""
        path = rest_json.model_path(ModelSpec(model, version, label))
        return rest_json.statuses_of(self._send(self._new_call(timeout), "GET", path))

    def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """The ways to call ``model``, by name."""
        return self._signatures(self._new_call(timeout), ModelSpec(model, version, label))

    def close(self) -> None:
        """Closes the connections, unless they are those of the ``http`` that was given."""
        if self._owns_http:
            self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _new_call(self, timeout: float | None) -> RestCall:
        return RestCall(self._timeout if timeout is None else timeout, self._retries)

    def _signatures(self, call: RestCall, spec: ModelSpec) -> dict[str, Signature]:
        path = f"{rest_json.model_path(spec)}/metadata"
        return rest_json.signatures_of(self._send(call, "GET", path))

    def _send(self, call: RestCall, verb: str, path: str, body: bytes = b"") -> bytes:
        while True:
            retry_after = None
            try:
                response, content = self._exchange(call, verb, path, body)
                error = failure(response, content)
                if error is None:
                    return content
                retry_after = response.headers.get("retry-after")
            except ServerError as unreachable:
                error = unreachable
            time.sleep(call.wait_after(error, retry_after))

    def _exchange(
        self, call: RestCall, verb: str, path: str, body: bytes
    ) -> tuple[httpx.Response, bytes]:
        """One attempt; looks at the deadline with each piece of the answer."""
        url, seconds = self._url + path, call.remaining()
        with (
            transport_errors(),
            self._http.stream(verb, url, content=body or None, timeout=seconds) as response,
        ):
            content = bytearray()
            for piece in response.iter_bytes():
                call.remaining()
                content += piece
            return response, bytes(content)
