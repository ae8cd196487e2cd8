"""A client over gRPC for programs with threads."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import grpc

from model_server_client import messages
from model_server_client.channel import (
    METADATA,
    METHODS,
    NOTHING,
    PREDICT,
    RELOAD,
    STATUS,
    Method,
    channel_options,
    metadata_of,
    server_error,
)
from model_server_client.models import (
    ModelConfig,
    ModelSpec,
    Prediction,
    Signature,
    VersionStatus,
)
from model_server_client.retries import USUAL, Retries

if TYPE_CHECKING:
    from google.protobuf.message import Message
    from numpy.typing import ArrayLike


class Client:
    """Asks a Model Server or a TensorFlow Serving at ``target``, as ``localhost:8500``.

    Every call raises ServerError where it ends without a result. ``timeout`` is in seconds, over
    all attempts of a call; a call may have its own. ``credentials`` bring TLS, ``metadata`` goes
    with every call, as a token does. ``wait_for_ready`` lets calls wait for a server that is not
    there yet. ``longest_message`` is in bytes. All methods may be called by several threads at
    once. Close it, or use it as a context manager.
    """

    def __init__(
        self,
        target: str,
        *,
        timeout: float = 30.0,
        retries: Retries = USUAL,
        credentials: grpc.ChannelCredentials | None = None,
        metadata: Mapping[str, str] = NOTHING,
        wait_for_ready: bool = False,
        longest_message: int = -1,
    ) -> None:
        options = channel_options(retries, longest_message)
        self._channel = (
            grpc.insecure_channel(target, options)
            if credentials is None
            else grpc.secure_channel(target, credentials, options)
        )
        self._calls = {method: self._multi_callable(method) for method in METHODS}
        self._timeout = timeout
        self._metadata = metadata
        self._wait_for_ready = wait_for_ready

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        *,
        version: int | None = None,
        label: str | None = None,
        signature: str = "",
        outputs: Iterable[str] = (),
        timeout: float | None = None,
        metadata: Mapping[str, str] = NOTHING,
    ) -> Prediction:
        """What ``model`` computes from ``inputs``: arrays, or anything numpy makes one of.

        ``outputs`` are the names of those to compute, none for all. Raises ServerError; ValueError
        for a version and a label at once; TypeError for elements that have no type in TensorFlow.
        """
        spec = ModelSpec(model, version, label, signature)
        request = messages.predict_request(spec, inputs, outputs)
        return messages.prediction(self._call(PREDICT, request, timeout, metadata))

    def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """Where the versions of ``model`` are in their lives; NOT_FOUND where there is none."""
        request = messages.status_request(ModelSpec(model, version, label))
        return messages.version_statuses(self._call(STATUS, request, timeout))

    def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """The ways to call ``model``, by name."""
        request = messages.metadata_request(ModelSpec(model, version, label))
        return messages.signatures_of(self._call(METADATA, request, timeout))

    def reload(self, models: Iterable[ModelConfig] | str, *, timeout: float | None = None) -> None:
        """Lets the server serve ``models``, and no others; they may be the text of a config file.

        It answers when the new configuration holds, or at the deadline. Raises ServerError, and
        ValueError for a text that is no configuration.
        """
        response = self._call(RELOAD, messages.reload_request(models), timeout)
        messages.check_reload(response)

    def close(self) -> None:
        """Ends the connection; calls in flight end with CANCELLED."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _multi_callable(self, method: Method) -> Any:
        return self._channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.answer.FromString,
        )

    def _call(
        self,
        method: Method,
        request: Message,
        timeout: float | None,
        metadata: Mapping[str, str] = NOTHING,
    ) -> Any:
        try:
            return self._calls[method](
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata_of(self._metadata, metadata),
                wait_for_ready=self._wait_for_ready,
            )
        except grpc.RpcError as error:
            raise server_error(error.code(), error.details()) from None
