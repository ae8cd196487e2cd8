"""Request bodies off the wire, gathered from their chunks, as long as there is room for them."""

from __future__ import annotations

from types import TracebackType

from starlette.types import Receive

from serving.apis.tensorflow_serving.rest.verb import Headers
from serving.core.errors import RequestTooLarge, Unavailable

_RETRY_SECONDS = 1.0


class BodyRoom:
    """How many bytes of all requests' bodies are held. Used on one event loop."""

    __slots__ = ("_max_bytes", "_num_bytes")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._num_bytes = 0

    @property
    def num_bytes(self) -> int:
        """Those that are held now."""
        return self._num_bytes

    def check(self, num_bytes: int) -> None:
        """Raises Unavailable where so many more would be too many."""
        if self._num_bytes + num_bytes > self._max_bytes:
            raise Unavailable(
                f"The server has no room for this request body: it holds {self._num_bytes} of at "
                f"most {self._max_bytes} bytes of others. Try again later.",
                _RETRY_SECONDS,
            )

    def take(self, num_bytes: int) -> None:
        """Hold so many more; raises Unavailable, and holds none of them, where that is too many."""
        self.check(num_bytes)
        self._num_bytes += num_bytes

    def give_back(self, num_bytes: int) -> None:
        """So many are not held any more."""
        self._num_bytes -= num_bytes


class HeldBody:
    """What one request holds of the room until it leaves this context, in whatever way."""

    __slots__ = ("_num_bytes", "_room")

    def __init__(self, room: BodyRoom) -> None:
        self._room = room
        self._num_bytes = 0

    def __enter__(self) -> HeldBody:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._room.give_back(self._num_bytes)

    def expect(self, num_bytes: int) -> None:
        """Raises Unavailable where a body of this length would find no room now."""
        self._room.check(num_bytes)

    def add(self, num_bytes: int) -> None:
        """Hold a chunk more; raises Unavailable where it finds no room."""
        self._room.take(num_bytes)
        self._num_bytes += num_bytes


async def receive_body(
    receive: Receive, headers: Headers, max_bytes: int, held: HeldBody
) -> bytes | None:
    """The whole body of a request, held by ``held``; None when the client went away before its end.

    Raises RequestTooLarge, or Unavailable where other requests' bodies leave no room, as soon as
    that is known: before anything is read where the request says its length, else with the chunk
    that exceeds ``max_bytes``, or finds no room.
    """
    told = headers.get(b"content-length", b"")
    if told.isdigit():
        if len(told) > 18 or int(told) > max_bytes:
            raise too_large(max_bytes)
        held.expect(int(told))
    chunks: list[bytes] = []
    room = max_bytes
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        chunk: bytes = message.get("body", b"")
        room -= len(chunk)
        if room < 0:
            raise too_large(max_bytes)
        held.add(len(chunk))
        if not message.get("more_body", False):
            return b"".join((*chunks, chunk)) if chunks else chunk
        chunks.append(chunk)


def too_large(max_bytes: int) -> RequestTooLarge:
    """What is told to a client whose body, as sent or as decoded, is larger."""
    return RequestTooLarge(f"The request body is larger than {max_bytes} bytes.")
