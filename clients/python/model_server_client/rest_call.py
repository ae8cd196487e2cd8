"""One call over HTTP with its deadline and retries, without a connection: what to do next."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from model_server_client.errors import Code, ServerError
from model_server_client.rest_json import error_of
from model_server_client.retries import Retries


class RestCall:
    """Says before each attempt how long it may take, and after a failure how long to wait.

    ``timeout`` is in seconds from now, over all attempts. Not thread-safe; it is one call's.
    """

    def __init__(self, timeout: float, retries: Retries) -> None:
        self._deadline = time.monotonic() + timeout
        self._codes = retries.codes
        self._waits = retries.waits()

    def remaining(self) -> float:
        """Seconds until the deadline; raises ServerError with DEADLINE_EXCEEDED after it."""
        seconds = self._deadline - time.monotonic()
        if seconds <= 0:
            raise ServerError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded")
        return seconds

    def wait_after(self, error: ServerError, retry_after: str | None = None) -> float:
        """Seconds to wait before the next attempt, raising ``error`` where there is to be none.

        ``retry_after`` is the header of that name: a number of seconds, else it is not heeded.
        """
        wait = next(self._waits, None)
        if wait is None or error.code not in self._codes:
            raise error
        if retry_after is not None and retry_after.isdecimal():
            wait = float(retry_after)
        if time.monotonic() + wait >= self._deadline:
            raise error
        return wait


def checked_url(url: str) -> str:
    """Without the slash at its end; raises ValueError for one that is not http or https."""
    if not url.startswith(("http://", "https://")):
        raise ValueError(f"{url!r} begins with neither http:// nor https://")
    return url.rstrip("/")


def failure(response: httpx.Response, content: bytes) -> ServerError | None:
    """What ``response`` says went wrong, if anything."""
    return None if response.status_code == 200 else error_of(response.status_code, content)


@contextmanager
def transport_errors() -> Iterator[None]:
    """Raises what httpx raises as the ServerError that gRPC would end with."""
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise ServerError(Code.DEADLINE_EXCEEDED, "Deadline Exceeded") from error
    except httpx.TransportError as error:
        raise ServerError(Code.UNAVAILABLE, f"{type(error).__name__}: {error}") from error
    except httpx.RequestError as error:  # an answer that can not be decoded, or leads in circles
        raise ServerError(Code.INTERNAL, f"{type(error).__name__}: {error}") from error
