"""What is known of the signatures of models that are asked over REST."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from model_server_client.errors import Code, ServerError
from model_server_client.models import ModelSpec, Signature

DEFAULT_SIGNATURE = "serving_default"


class KnownSignatures:
    """Signatures by model, version or label, and name.

    Thread-safe: threads that learn the same at once overwrite each other's with the like.
    """

    def __init__(self) -> None:
        self._signatures: dict[ModelSpec, Signature] = {}

    def of(self, model: ModelSpec) -> Signature | None:
        """The signature that ``model`` is asked by, if it is known."""
        return self._signatures.get(model)

    def learn(self, model: ModelSpec, signatures: Mapping[str, Signature]) -> Signature:
        """Remembers what a server said of ``model``, and gives the signature it is asked by.

        Raises ServerError with NOT_FOUND where the model has no signature of that name any more.
        """
        for name, signature in signatures.items():
            self._signatures[replace(model, signature=name)] = signature
        name = model.signature or DEFAULT_SIGNATURE
        if name not in signatures:
            raise ServerError(Code.NOT_FOUND, f"model {model.name!r} has no signature {name!r}")
        self._signatures[model] = signatures[name]
        return signatures[name]
