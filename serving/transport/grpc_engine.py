"""What the gRPC server asks of an engine, and what an engine is given to serve."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import grpc

from serving.core.call import UnaryHandler
from serving.core.errors import Code, ServingError


class GrpcStream(Protocol):
    """One streaming call, as an engine lends it to a service. Thread-safe.

    Once the call is over, whatever is done to it has no effect.
    """

    def send(self, response: bytes) -> None:
        """Send a message after those sent before."""

    def end(self, error: ServingError | None = None) -> None:
        """End the call, once what was sent is on its way, with OK or with the error."""


class StreamMethod(Protocol):
    """A streaming method. With ``one_request`` a call lasts until either side ends it; without,
    it ends with OK once the client has sent its last request and every answer is sent.
    """

    one_request: bool

    def requested(self, stream: GrpcStream, request: bytes) -> None:
        """A request has come; the next one of the same stream comes after this has returned."""

    def over(self, stream: GrpcStream) -> None:
        """The call has ended, whoever ended it. Called once."""


CallBegun = Callable[[str], Callable[[Code], object]]
"""Hears of a call by its path, and gives what hears how it has ended. Any thread may call both."""


def unheard(_path: str) -> Callable[[Code], object]:
    """The CallBegun that counts nothing."""
    return lambda _code: None


@dataclass(frozen=True, slots=True)
class GrpcMethods:
    """What to serve, by full path, ``/package.Service/Method``.

    Unary calls in ``waiting`` may take minutes to answer. ``with_peer``: contexts say who calls.
    ``begun`` hears of the calls that no unary handler gets: streams, those of methods that there
    are none of, what a server that stops refuses, and, on the completion queue, those whose
    request does not come or is too large: grpcio's public server tells nobody of these.
    """

    unary: Mapping[str, UnaryHandler]
    streams: Mapping[str, StreamMethod] = field(default_factory=dict)
    waiting: Collection[str] = frozenset()
    with_peer: bool = False
    begun: CallBegun = unheard


class GrpcEngine(Protocol):
    """Carries calls. Made with GrpcOptions and GrpcMethods. Thread-safe."""

    def listen(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """Open a port before the start; returns its number, 1 for a unix socket.

        Encrypted where there are credentials. Raises RuntimeError where the address cannot be had.
        """

    def start(self) -> None:
        """Take calls."""

    def stop(self, grace_seconds: float) -> None:
        """Refuse new calls with UNAVAILABLE, let those in progress end within the grace, cancel
        the others; streams are cut at once. Returns when no call is left. A second call from
        another thread may shorten the grace; before the start, it lets go of the ports.
        """
