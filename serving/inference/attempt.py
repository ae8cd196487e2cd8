"""The frame of every verb: prepare, run, convert, and give back the result or the error."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

import numpy as np

from serving.core.errors import Internal, InvalidArgument, ServingError
from serving.core.servable import Outputs, RunOptions, Servable

log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


def attempt(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | ServingError:
    """What ``work`` returns for these arguments, or the error it raised.

    An exception that is not a ServingError is a defect: it is logged with its trace and becomes
    INTERNAL without its text. Callbacks run on an engine's thread, where an escaped exception
    would leave the call without an answer. The error comes without its trace.
    """
    try:
        return work(*args, **kwargs)
    except ServingError as error:
        return error.untraced()
    except Exception:
        log.exception("a call failed for a reason that is not the client's")
        return Internal("internal error")


@dataclass(frozen=True, slots=True)
class Run(Generic[T]):
    """One run of a servable: feeds and fetches by the engine's tensor names, and what becomes of
    the outputs. ``convert`` may raise.
    """

    feeds: Mapping[str, np.ndarray]
    fetches: Sequence[str]
    convert: Callable[[Outputs], T]


def evaluate(
    servable: Servable,
    prepare: Callable[[], Run[T]],
    options: RunOptions,
    done: Callable[[T | ServingError], None],
) -> None:
    """Do the run that ``prepare`` returns, and give ``done`` its result or the error, once.

    Never raises; ``prepare`` may. ``done`` is called on this thread or on the engine's.
    """
    run = attempt(prepare)
    if isinstance(run, ServingError):
        done(run)
        return

    def finish(outputs: Outputs | ServingError) -> None:
        if isinstance(outputs, ServingError):
            done(outputs)
        else:
            done(attempt(lambda: run.convert(outputs)))

    servable.run(run.feeds, run.fetches, options, finish)


def by_name(fetches: Sequence[str], outputs: Outputs) -> Mapping[str, np.ndarray]:
    """The outputs of a run by the names that were fetched.

    Raises InvalidArgument when there are more or fewer than fetched.
    """
    if len(outputs) != len(fetches):
        raise InvalidArgument(f"Expected {len(fetches)} output tensor(s).  Got: {len(outputs)}")
    return dict(zip(fetches, outputs, strict=True))
