"""Over HTTP, whether the process lives and whether it should be sent requests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping

from serving.transport.http_engine import AsgiApp, AsgiMessage

LIVE = "/healthz/live"
READY = "/healthz/ready"


def health_apps(why_not_ready: Callable[[], str]) -> Mapping[str, AsgiApp]:
    """The apps by path: 200, or 503 with the reason where there is one not to be ready.

    ``why_not_ready`` is called on the event loop, and must be quick.
    """
    return {LIVE: _Probe(lambda: ""), READY: _Probe(why_not_ready)}


class _Probe:
    """Answers GET and HEAD with one line of text."""

    def __init__(self, problem: Callable[[], str]) -> None:
        self._problem = problem

    async def __call__(
        self,
        scope: AsgiMessage,
        _receive: Callable[[], Awaitable[AsgiMessage]],
        send: Callable[[AsgiMessage], Awaitable[None]],
    ) -> None:
        method = scope["method"]
        if method in ("GET", "HEAD"):
            problem = self._problem()
            status, text = (503, problem) if problem else (200, "ok")
        else:
            status, text = 405, f"{method} is not supported"
        body = f"{text}\n".encode()
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"content-length", str(len(body)).encode()),
            (b"cache-control", b"no-store"),
        ]
        if status == 405:
            headers.append((b"allow", b"GET, HEAD"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else body})
