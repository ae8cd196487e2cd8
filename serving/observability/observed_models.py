"""Models and servables that tell the call they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from threading import get_ident

import numpy as np

from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig
from serving.core.models import Leased, Models, ModelSpec
from serving.core.observed_call import CURRENT_CALL, ObservedCall, working_for
from serving.core.servable import Outputs, RunCallback, RunOptions
from serving.core.servable_handle import ServableHandle
from serving.core.servable_state import ServableState
from serving.core.servable_wrapper import ServableWrapper


class ObservedModels:
    """A Models around another: the current call learns which version it gets, and when.

    Whoever hears of a lease works for the call that asked. Thread-safe.
    """

    def __init__(self, models: Models) -> None:
        self._models = models

    def lease(self, spec: ModelSpec, deadline: float | None, leased: Leased) -> None:
        call = CURRENT_CALL.get()
        if call is None:
            self._models.lease(spec, deadline, leased)
            return
        call.asks_for(spec.name, spec.version)
        call.lease_began = call.now()
        starter = get_ident()

        def lent(outcome: ServableHandle | ServingError) -> None:
            if get_ident() != starter:
                call.lease_ended = call.now()
            if not isinstance(outcome, ServingError):
                call.version = outcome.id.version
            with working_for(call):
                leased(outcome)

        self._models.lease(spec, deadline, lent)

    def names(self) -> Sequence[str]:
        return self._models.names()

    def versions(self, name: str) -> Sequence[ServableState]:
        return self._models.versions(name)

    def begin_reload(
        self, configs: Sequence[ModelConfig], done: Callable[[ServingError | None], None]
    ) -> None:
        call = CURRENT_CALL.get()
        self._models.begin_reload(configs, done if call is None else _for(call, done))


class ObservedServable(ServableWrapper):
    """A Servable around another: the current call learns when its run is asked for and has ended.

    Whoever hears of the outcome works for the call that asked.
    """

    def run(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        options: RunOptions,
        done: RunCallback,
    ) -> None:
        call = CURRENT_CALL.get()
        if call is None:
            self._servable.run(feeds, fetches, options, done)
            return
        call.rows = next((len(tensor) for tensor in feeds.values() if tensor.ndim), None)
        call.queued = call.now()

        def ran(result: Outputs | ServingError) -> None:
            call.run_ended = call.now()
            with working_for(call):
                done(result)

        self._servable.run(feeds, fetches, replace(options, call=call), ran)


def _for(
    call: ObservedCall, done: Callable[[ServingError | None], None]
) -> Callable[[ServingError | None], None]:
    def heard(error: ServingError | None) -> None:
        with working_for(call):
            done(error)

    return heard
