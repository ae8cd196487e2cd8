"""Chooses the engine that carries HTTP requests."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from serving.core.errors import FailedPrecondition
from serving.core.extras import remedy
from serving.transport.http_engine import AsgiApp, HttpEngine
from serving.transport.http_options import HTTPTOOLS, HYPERCORN, HttpOptions
from serving.transport.tls import Certificate

_ENGINES = {
    HTTPTOOLS: "serving.transport.http1_engine:Http1Engine",
    HYPERCORN: "serving.transport.hypercorn_engine:HypercornEngine",
}


def new_engine(options: HttpOptions, app: AsgiApp, certificate: Certificate | None) -> HttpEngine:
    """The engine that the options name. Raises FailedPrecondition where it is not installed."""
    name = options.engine
    module, _, attribute = _ENGINES[name].partition(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise FailedPrecondition(
            f"rest_engine {name} is not installed: {remedy('http2')}"
        ) from None
    new: Callable[[AsgiApp, Certificate | None, HttpOptions], HttpEngine] = getattr(
        loaded, attribute
    )
    return new(app, certificate, options)
