"""Turning exceptions into values, where nobody up the stack could catch them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from serving.core.errors import Internal, ServingError
from serving.core.servable import Outputs, RunOptions, Servable

log = logging.getLogger(__name__)

T = TypeVar("T")


def attempt(work: Callable[[], T]) -> T | ServingError:
    """What ``work`` returns, or the error it raised.

    An exception that is not a ServingError is a defect: it is logged with its trace and becomes
    INTERNAL without its text. Callbacks run on an engine's thread, where an escaped exception
    would leave the call without an answer.
    """
    try:
        return work()
    except ServingError as error:
        return error
    except Exception:
        log.exception("a call failed for a reason that is not the client's")
        return Internal("internal error")


def run_then(
    servable: Servable,
    feeds: Mapping[str, np.ndarray],
    fetches: Sequence[str],
    options: RunOptions,
    *,
    convert: Callable[[Outputs], T],
    done: Callable[[T | ServingError], None],
) -> None:
    """Run, convert the outputs, and give ``done`` the result or the error, once."""

    def finish(outputs: Outputs | ServingError) -> None:
        if isinstance(outputs, ServingError):
            done(outputs)
        else:
            done(attempt(lambda: convert(outputs)))

    servable.run(feeds, fetches, options, finish)
