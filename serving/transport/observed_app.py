"""HTTP calls that are observed: an ASGI app around another."""

from __future__ import annotations

from serving.core.call_observer import REQUEST_ID, CallObserver
from serving.core.observed_call import (
    LONGEST_NAME,
    Arrival,
    ObservedCall,
    Protocols,
    RequestMetadata,
    working_for,
)
from serving.transport.http_engine import AsgiApp, AsgiMessage, AsgiReceive, AsgiSend

_CLIENT_CLOSED_REQUEST = 499  # as nginx has it, for a client that is gone before it is answered
_INTERNAL_SERVER_ERROR = 500


class ObservedApp:
    """Tells ``observer`` of every HTTP call of ``app``. A call begins with its headers."""

    def __init__(self, app: AsgiApp, observer: CallObserver) -> None:
        self._app = app
        self._observer = observer

    async def __call__(self, scope: AsgiMessage, receive: AsgiReceive, send: AsgiSend) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        call = self._observer.begin(_arrival(scope), _metadata(scope))
        exchange = _Exchange(call, receive, send)
        status = _INTERNAL_SERVER_ERROR
        try:
            with working_for(call):
                await self._app(scope, exchange.receive, exchange.send)
            status = exchange.status or _CLIENT_CLOSED_REQUEST
        finally:
            call.answered(str(status), exchange.response_bytes)
            call.tell_ended()


class _Exchange:
    """The two directions of one call, with what passes through them."""

    def __init__(self, call: ObservedCall, receive: AsgiReceive, send: AsgiSend) -> None:
        self.status = 0  # until the response begins
        self.response_bytes = 0
        self._call = call
        self._receive = receive
        self._send = send

    async def receive(self) -> AsgiMessage:
        message = await self._receive()
        self._call.request_bytes += len(message.get("body", b""))
        return message

    async def send(self, message: AsgiMessage) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self._call.returns_request_id:
                header = (REQUEST_ID.encode(), self._call.request_id.encode())
                message = {**message, "headers": [*message.get("headers", ()), header]}
        else:
            self.response_bytes += len(message.get("body", b""))
        await self._send(message)


def _arrival(scope: AsgiMessage) -> Arrival:
    host, port = scope.get("client") or ("", 0)
    peer = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    path = (scope.get("raw_path") or scope["path"].encode())[:LONGEST_NAME].decode("latin-1")
    return Arrival(Protocols.HTTP, scope["method"], peer if host else "", path, scope["scheme"])


def _metadata(scope: AsgiMessage) -> RequestMetadata:
    return [(key.decode("latin-1"), value.decode("latin-1")) for key, value in scope["headers"]]
