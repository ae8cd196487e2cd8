"""What clients say of models and are told of them, in terms of Python and numpy."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from model_server_client.errors import Code


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Which model is asked: a version of it by number or by label, or the newest there is.

    Raises ValueError when both a version and a label are given.
    """

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""

    def __post_init__(self) -> None:
        if self.version is not None and self.label is not None:
            raise ValueError(
                f"model {self.name!r} is asked for version {self.version} and for label"
                f" {self.label!r}: give one of them"
            )


class Prediction(Mapping[str, np.ndarray]):
    """The outputs of one prediction by name, and the ``model`` that answered.

    Over REST a server does not say which version has answered: ``model`` is what was asked then.
    """

    __slots__ = ("_outputs", "model")

    def __init__(self, outputs: Mapping[str, np.ndarray], model: ModelSpec) -> None:
        self._outputs = outputs
        self.model = model

    def __getitem__(self, name: str) -> np.ndarray:
        return self._outputs[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._outputs)

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        return f"Prediction({dict(self._outputs)!r}, {self.model!r})"


class State(enum.Enum):
    """Where a version is in its life, as ModelService tells it."""

    UNKNOWN = 0
    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """One version of a model; ``code`` and ``message`` say why it ended, or OK and nothing."""

    version: int
    state: State
    code: Code
    message: str


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """An input or output: its element type, and the size of each dimension, None for any.

    ``shape`` is None where the rank is not fixed, ``dtype`` is None for types numpy has not.
    Strings are numpy objects: bytes.
    """

    dtype: np.dtype | None
    shape: tuple[int | None, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """One way to call a model."""

    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]
    method: str


@dataclass(frozen=True, slots=True)
class Latest:
    """The ``count`` newest versions are served."""

    count: int = 1


@dataclass(frozen=True, slots=True)
class All:
    """All versions are served."""


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """A model that a server is to serve: for ``reload``.

    ``versions`` are Latest, All, or the numbers of versions; ``labels`` give names to versions.
    """

    name: str
    base_path: str
    platform: str = "tensorflow"
    versions: Latest | All | tuple[int, ...] = Latest()
    labels: Mapping[str, int] = field(default_factory=dict)
