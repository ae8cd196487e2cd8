"""The interface between the REST gateway and the calls that run a model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from serving.apis.tensorflow_serving.rest.json_document import JsonObject
from serving.core.errors import ServingError
from serving.core.servable import RunOptions
from serving.core.servable_handle import ServableHandle

WriteBody = Callable[[], bytes]
"""Makes the body of a response. Put off, since the thread of a batch must not do that work."""

Answer = Callable[[WriteBody | ServingError], None]
"""Ends a call with what writes its body, or with its error: once, from any thread."""


class Verb(Protocol):
    """Runs a model on what a JSON document holds. The caller releases the handle."""

    def __call__(
        self,
        handle: ServableHandle,
        document: JsonObject,
        options: RunOptions,
        answer: Answer,
        *,
        check_method_name: bool,
    ) -> None:
        """Answer once, or raise a ServingError instead, never both."""
