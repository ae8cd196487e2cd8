"""Chooses the engine that carries HTTP requests."""

from __future__ import annotations

import importlib

from serving.core.errors import FailedPrecondition
from serving.transport.http_engine import AsgiApp, HttpEngine
from serving.transport.http_options import HYPERCORN, UVICORN
from serving.transport.tls import Certificate

_ENGINES = {
    UVICORN: "serving.transport.uvicorn_engine:UvicornEngine",
    HYPERCORN: "serving.transport.hypercorn_engine:HypercornEngine",
}


def new_engine(name: str, app: AsgiApp, certificate: Certificate | None) -> HttpEngine:
    """The engine with this name. Raises FailedPrecondition where it is not installed."""
    module, _, attribute = _ENGINES[name].partition(":")
    try:
        loaded = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != name:
            raise
        raise FailedPrecondition(
            f"rest_engine {name} is not installed: pip install 'model-server[http2]'"
        ) from None
    engine: HttpEngine = getattr(loaded, attribute)(app, certificate)
    return engine
