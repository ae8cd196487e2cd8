"""The interface between the REST gateway and the calls that run a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from serving.apis.tensorflow_serving.rest.json_document import JsonObject
from serving.core.errors import ServingError
from serving.core.request_log import LoggedCall
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle

JSON = b"application/json"

Headers = Mapping[bytes, bytes]
"""The headers of a request by their lower-case names; of several with one name, the last."""


class Content(NamedTuple):
    """A response's body, and what it is. ``coding`` is empty where it is not compressed.

    ``varies``: another Accept-Encoding might have had it compressed in another way.
    """

    body: bytes
    media_type: bytes = JSON
    coding: bytes = b""
    varies: bool = False


class Writing(NamedTuple):
    """What makes the body of a response, and how much there is to write, in numbers or the like.

    Put off, since the thread of a batch must not do that work. ``logged`` tells what was asked and
    answered, where the call is logged.
    """

    write: Callable[[], Content]
    amount: int
    logged: Callable[[], LoggedCall]


Answer = Callable[[Writing | ServingError], None]
"""Ends a call with what writes its body, or with its error: once, from any thread."""

Call = Callable[[ServableHandle, RunOptions, Answer], None]
"""Runs a model on what one request holds: answers once, or raises a ServingError, never both.

The caller releases the handle.
"""


class Verb(Protocol):
    """Runs a model on what a JSON document holds, as a :data:`Call` does."""

    def __call__(
        self,
        handle: ServableHandle,
        document: JsonObject,
        options: RunOptions,
        answer: Answer,
        *,
        check_method_name: bool,
    ) -> None: ...
