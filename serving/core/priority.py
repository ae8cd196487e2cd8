"""Which work goes before other work, and how clients ask for it."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from serving.core.errors import InvalidArgument

REQUEST_PRIORITY = "x-request-priority"
"""The key of gRPC metadata, and the HTTP header."""


class Priority(IntEnum):
    """What has the smaller number is served first."""

    HIGH = 0
    NORMAL = 1
    LOW = 2


_BY_NAME = {priority.name.lower(): priority for priority in Priority}


def requested_priority(metadata: Iterable[tuple[str, str | bytes]]) -> Priority:
    """What the first ``x-request-priority`` says; NORMAL where there is none.

    ``metadata`` are pairs of lower-case keys and values. Raises InvalidArgument unless it is
    ``high``, ``normal`` or ``low``, in letters of either case.
    """
    for key, value in metadata:
        if key == REQUEST_PRIORITY:
            priority = _BY_NAME.get(str(value).lower())
            if priority is None:
                raise InvalidArgument(
                    f"{REQUEST_PRIORITY} must be one of {', '.join(_BY_NAME)}, not {value!r}"
                )
            return priority
    return Priority.NORMAL
