"""Where and how the gRPC server listens."""

from __future__ import annotations

from dataclasses import dataclass

from serving.core.errors import InvalidArgument

COMPLETION_QUEUE = "completion_queue"
THREADED = "threaded"
ENGINES = (COMPLETION_QUEUE, THREADED)

_INT32_MAX = 2**31 - 1
_MOST_PENDING = 10_000
"""Calls that may wait to be looked at. By default gRPC cancels some above 1,000, which clients do
not retry: a busy server that is held up for 50 ms would lose them.
"""
_CHANNEL_ARGUMENTS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", _INT32_MAX),
    ("grpc.max_receive_message_length", _INT32_MAX),
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_PENDING),
)


@dataclass(frozen=True, slots=True)
class GrpcOptions:
    """Where and how to listen. ``address`` is ``host:port`` (port 0: the system picks), or empty.

    ``engine`` is one of ``ENGINES``. ``channel_arguments`` come on top of the server's own.
    ``max_threads`` bounds the threads that handlers may hold at the same time. ``shared``: further
    processes listen on the address too. Raises InvalidArgument when there is nothing to listen on,
    no thread to answer or no such engine.
    """

    address: str = "0.0.0.0:8500"
    socket_path: str = ""
    max_threads: int = 8
    channel_arguments: tuple[tuple[str, int | str], ...] = ()
    health_service: bool = False
    channelz: bool = False
    engine: str = COMPLETION_QUEUE
    shared: bool = False

    def __post_init__(self) -> None:
        if not self.address and not self.socket_path:
            raise InvalidArgument(
                "At least one of server_options.grpc_port or server_options.grpc_socket_path"
                " must be set."
            )
        if self.max_threads < 1:
            raise InvalidArgument(f"grpc_max_threads must be at least 1, not {self.max_threads}")
        if self.engine not in ENGINES:
            raise InvalidArgument(
                f"grpc_engine must be one of {', '.join(ENGINES)}, not {self.engine!r}"
            )

    def all_channel_arguments(self) -> list[tuple[str, int | str]]:
        """The server's own channel arguments, overridden and completed by the ones given."""
        # Not by default: a second server on the port would start, and take half of the calls.
        shared = {"grpc.so_reuseport": int(self.shared)}
        return list({**dict(_CHANNEL_ARGUMENTS), **shared, **dict(self.channel_arguments)}.items())
