"""The one tree of errors, each with its canonical status code (google.rpc.Code)."""

from __future__ import annotations

import enum
from typing import ClassVar, Self


class Code(enum.IntEnum):
    """Canonical status codes; the numbers are those of gRPC and of google.rpc.Code."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16

    @property
    def http_status(self) -> int:
        """The HTTP status that says the same; whatever has none is the server's own fault, 500."""
        return _HTTP_STATUS.get(self, 500)


_HTTP_STATUS: dict[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.UNAVAILABLE: 503,
    Code.UNAUTHENTICATED: 401,
}


class ServingError(Exception):
    """An error that may be shown to a client: a canonical code and a message in plain words.

    Everything that fails on purpose raises a subclass. Any other exception is a defect and is
    answered as INTERNAL without its text. ``retry_after_seconds`` is a hint for the client: when
    the same call may succeed; None where nothing is known of that.
    """

    code: ClassVar[Code] = Code.UNKNOWN
    retry_after_seconds: float | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return f"{self.code.name}: {self.message}"

    @property
    def http_status(self) -> int:
        """The HTTP status that says the same."""
        return self.code.http_status

    def untraced(self) -> Self:
        """The error, for one who keeps it as an answer: without its trace and what it comes from.

        They hold the frames that it has passed, with all their tensors. Where one of those holds
        the error again, all that is a circle, which only the collector frees.
        """
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class Cancelled(ServingError):
    code = Code.CANCELLED


class Unknown(ServingError):
    code = Code.UNKNOWN


class InvalidArgument(ServingError):
    code = Code.INVALID_ARGUMENT


class DeadlineExceeded(ServingError):
    code = Code.DEADLINE_EXCEEDED


class NotFound(ServingError):
    code = Code.NOT_FOUND


class Gone(NotFound):
    """What a source had found is not there any more when it is to be loaded."""


class AlreadyExists(ServingError):
    code = Code.ALREADY_EXISTS


class PermissionDenied(ServingError):
    code = Code.PERMISSION_DENIED


class ResourceExhausted(ServingError):
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class RequestTooLarge(ResourceExhausted):
    """The body of a request has more bytes than the server takes."""

    @property
    def http_status(self) -> int:
        return 413


class NoRoom(ResourceExhausted):
    """What would fit alone does not fit beside what is held already."""


class FailedPrecondition(ServingError):
    code = Code.FAILED_PRECONDITION


class IncompatibleShapes(FailedPrecondition):
    """Requests that may each be right have shapes that cannot be joined into one."""


class Aborted(ServingError):
    code = Code.ABORTED


class OutOfRange(ServingError):
    code = Code.OUT_OF_RANGE


class Unimplemented(ServingError):
    code = Code.UNIMPLEMENTED


class Internal(ServingError):
    code = Code.INTERNAL


class IncompatibleTypes(Internal):
    """Requests, not all of them wrong, have element types that cannot be joined into one."""


class Unavailable(ServingError):
    code = Code.UNAVAILABLE

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class DataLoss(ServingError):
    code = Code.DATA_LOSS


class Unauthenticated(ServingError):
    code = Code.UNAUTHENTICATED


_BY_CODE: dict[Code, type[ServingError]] = {cls.code: cls for cls in ServingError.__subclasses__()}


def error_for(code: int, message: str) -> ServingError:
    """The error with this canonical code; an unknown code becomes UNKNOWN, as gRPC prescribes."""
    try:
        return _BY_CODE[Code(code)](message)
    except (KeyError, ValueError):
        return Unknown(message)
