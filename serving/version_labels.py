"""Labels that name a version of a model, so that clients can ask for "stable" instead of 7."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from serving.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from serving.core.model_config import ModelConfig
from serving.core.servable_id import ServableId

Labels = Mapping[str, Mapping[str, int]]
"""Model name → label → version."""


class VersionLabels:
    """The labels of the configuration in force; replaced as a whole. Thread-safe."""

    def __init__(self, *, allow_unavailable: bool) -> None:
        """``allow_unavailable``: a label not yet in use may name a version that is not loaded."""
        self._allow_unavailable = allow_unavailable
        self._labels: Labels | None = None

    @property
    def in_force(self) -> Labels | None:
        """The labels as they are now, another object after each :meth:`replace`; None at first."""
        return self._labels

    def resolve(self, name: str, label: str) -> int:
        """The version a label stands for.

        Raises Unavailable before the first configuration, InvalidArgument for an unknown label.
        """
        if self._labels is None:
            raise Unavailable(f"Model labels does not init yet.{label}")
        version = self._labels.get(name, {}).get(label)
        if version is None:
            raise InvalidArgument(f"Unrecognized servable version label: {label}")
        return version

    def check(
        self, configs: Sequence[ModelConfig], is_available: Callable[[ServableId], bool]
    ) -> Labels:
        """The labels that these configurations ask for, when every one of them is allowed.

        A label must name an available version, so that using it can not fail. With
        ``allow_unavailable`` that holds only for a label that is in use and moves.
        Raises FailedPrecondition naming the first that is refused.
        """
        in_use = self._labels or {}
        for config in configs:
            for label, version in config.version_labels.items():
                before = in_use.get(config.name, {}).get(label)
                tolerated = self._allow_unavailable and before in (None, version)
                if not tolerated and not is_available(ServableId(config.name, version)):
                    raise FailedPrecondition(
                        f"Request to assign label to version {version} of model {config.name}, "
                        "which is not currently available for inference"
                    )
        return {config.name: dict(config.version_labels) for config in configs}

    def replace(self, labels: Labels) -> None:
        """Put what :meth:`check` returned into force."""
        self._labels = labels
