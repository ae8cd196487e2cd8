"""What is known of the signatures of models that are asked over REST."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from model_server_client.errors import Code, ServerError
from model_server_client.models import ModelSpec, Signature

DEFAULT_SIGNATURE = "serving_default"


LEARNED_FOR_SECONDS = 60.0


class KnownSignatures:
    """Signatures by model, version or label, and name.

    That of a version is known for good, as versions do not change. What is asked for by a label or
    as the newest may be another version soon, so that is known for a minute. ``now`` tells the time
    in seconds. Thread-safe: threads that learn the same at once overwrite each other's with the
    like.
    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._signatures: dict[ModelSpec, tuple[Signature, float]] = {}

    def of(self, model: ModelSpec) -> Signature | None:
        """The signature that ``model`` is asked by, if it is known."""
        signature, learned = self._signatures.get(model, (None, 0.0))
        if model.version is None and self._now() - learned > LEARNED_FOR_SECONDS:
            return None
        return signature

    def learn(self, model: ModelSpec, signatures: Mapping[str, Signature]) -> Signature:
        """Remembers what a server said of ``model``, and gives the signature it is asked by.

        Raises ServerError with NOT_FOUND where the model has no signature of that name any more.
        """
        for name, signature in signatures.items():
            self._signatures[replace(model, signature=name)] = signature, self._now()
        name = model.signature or DEFAULT_SIGNATURE
        if name not in signatures:
            raise ServerError(Code.NOT_FOUND, f"model {model.name!r} has no signature {name!r}")
        self._signatures[model] = signatures[name], self._now()
        return signatures[name]
