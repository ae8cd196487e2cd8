"""Request bytes to messages."""

from __future__ import annotations

from typing import TypeVar

from google.protobuf.message import DecodeError, Message

from serving.core.errors import Internal

M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """The message in ``data``; raises Internal, as gRPC servers do, when it is not one."""
    try:
        return kind.FromString(data)
    except DecodeError:
        name = kind.DESCRIPTOR.full_name
        raise Internal(f"Error parsing request: the bytes are not a {name}") from None
