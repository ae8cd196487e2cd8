"""A client over gRPC for programs with an event loop."""

from __future__ import annotations

import asyncio
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
from model_server_client.errors import Code, ServerError
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


class AsyncClient:
    """As Client, for the event loop in which it is made and used.

    Close it, or use it as an asynchronous context manager. A call that is cancelled is cancelled
    on the server.
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
            grpc.aio.insecure_channel(target, options)
            if credentials is None
            else grpc.aio.secure_channel(target, credentials, options)
        )
        self._calls = {method: self._multi_callable(method) for method in METHODS}
        self._timeout = timeout
        self._metadata = metadata
        self._wait_for_ready = wait_for_ready

    async def predict(
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
        """As Client.predict."""
        spec = ModelSpec(model, version, label, signature)
        request = messages.predict_request(spec, inputs, outputs)
        return messages.prediction(await self._call(PREDICT, request, timeout, metadata))

    async def status(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> tuple[VersionStatus, ...]:
        """As Client.status."""
        request = messages.status_request(ModelSpec(model, version, label))
        return messages.version_statuses(await self._call(STATUS, request, timeout))

    async def signatures(
        self,
        model: str,
        *,
        version: int | None = None,
        label: str | None = None,
        timeout: float | None = None,
    ) -> dict[str, Signature]:
        """As Client.signatures."""
        request = messages.metadata_request(ModelSpec(model, version, label))
        return messages.signatures_of(await self._call(METADATA, request, timeout))

    async def reload(
        self, models: Iterable[ModelConfig] | str, *, timeout: float | None = None
    ) -> None:
        """As Client.reload."""
        response = await self._call(RELOAD, messages.reload_request(models), timeout)
        messages.check_reload(response)

    async def close(self) -> None:
        """Ends the connection; calls in flight end with CANCELLED."""
        await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    def _multi_callable(self, method: Method) -> Any:
        return self._channel.unary_unary(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.answer.FromString,
        )

    async def _call(
        self,
        method: Method,
        request: Message,
        timeout: float | None,
        metadata: Mapping[str, str] = NOTHING,
    ) -> Any:
        try:
            return await self._calls[method](
                request,
                timeout=self._timeout if timeout is None else timeout,
                metadata=metadata_of(self._metadata, metadata),
                wait_for_ready=self._wait_for_ready,
            )
        except grpc.aio.AioRpcError as error:
            raise server_error(error.code(), error.details()) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise ServerError(Code.CANCELLED, "the client was closed") from None
        except grpc.aio.UsageError as error:
            raise ValueError(str(error)) from None
