"""A version that one function of its framework computes on the caller's thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from serving.core.errors import DeadlineExceeded, Internal, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, RunCallback, RunOptions, Signature
from serving.core.servable_id import ServableId
from serving.loaders.input_check import as_bytes, check_input, check_names

log = logging.getLogger(__name__)

Compute = Callable[[Mapping[str, np.ndarray], Sequence[str]], Outputs]
"""Feeds and fetches, both by the signature's tensor names, to an array for each fetch.

The feeds are checked and aligned. Strings come as objects that hold ``bytes`` and may be answered
as text. Called from several threads at a time.
"""


class FunctionServable:
    """Checks requests against its signature and computes; implements Servable.

    ``refusals`` are the exceptions by which the framework refuses inputs: they become
    InvalidArgument with their text; any other is logged and becomes Internal without it.
    """

    def __init__(
        self,
        servable_id: ServableId,
        signature: Signature,
        compute: Compute,
        *,
        refusals: tuple[type[Exception], ...] = (ValueError,),
        may_run_long: bool = False,
    ) -> None:
        self._id = servable_id
        self._compute: Compute | None = compute
        self._refusals = refusals
        self.may_run_long = may_run_long
        self._inputs = {info.name: info for info in signature.inputs.values()}
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        """Compute while the calling thread waits; a run whose deadline has passed is not begun."""
        if options.deadline is not None and options.deadline <= time.monotonic():
            done(DeadlineExceeded("The deadline passed before the run began"))
        else:
            done(self._result(feeds, fetches))

    def close(self) -> None:
        """Let go of the model."""
        self._compute = None

    def _result(
        self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]
    ) -> Outputs | ServingError:
        assert self._compute is not None  # no run comes after the close
        try:
            check_names(self._inputs, feeds)
            for name, array in feeds.items():
                check_input(self._inputs[name], array)
            aligned = {
                name: array if array.flags.aligned else array.copy()
                for name, array in feeds.items()
            }
            return [as_bytes(output) for output in self._compute(aligned, fetches)]
        except ServingError as error:
            return error
        except self._refusals as error:
            return InvalidArgument(str(error))
        except Exception:  # a defect, which must not leave the caller without an answer
            log.exception("a run of %s failed", self._id)
            return Internal("the run failed unexpectedly")

    def __repr__(self) -> str:
        return f"<FunctionServable {self._id}>"
