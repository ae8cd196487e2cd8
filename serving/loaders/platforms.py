"""The table of platforms, and the one place that imports a framework: when it is first needed."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.loaders.guarded_platform import GuardedPlatform
from serving.loaders.platform import Platform
from serving.loaders.tflite_preferred import TfLitePreferred

PLATFORMS: Mapping[str, str] = {
    "tensorflow": "serving.loaders.tensorflow_loader:TensorFlowPlatform",
    "hashmap": "serving.loaders.hashmap_loader:HashmapPlatform",
    "onnx": "serving.loaders.onnx_loader:OnnxPlatform",
    "tflite": "serving.loaders.tflite_loader:TfLitePlatform",
}
"""Platform name, as model configurations spell it → module and class."""


@dataclass(frozen=True, slots=True)
class AddedPlatform:
    """A platform that is not in the table: ``module:Class``, and what it is made with, if that is
    anything.
    """

    target: str
    options: Mapping[str, object] | None = None


class Platforms:
    """The platforms of one server, each made when first asked for. Thread-safe."""

    def __init__(
        self,
        options: Mapping[str, object],
        *,
        added: Mapping[str, AddedPlatform] | None = None,
        prefer_tflite: bool = False,
    ) -> None:
        """``options``: the options object of each platform that takes one, by name.

        ``added`` are platforms beside those of the table. With ``prefer_tflite``, ``tensorflow``
        serves TensorFlow Lite models where there are any.
        """
        added = added or {}
        self._table = {**{name: each.target for name, each in added.items()}, **PLATFORMS}
        self._options = {**{name: each.options for name, each in added.items()}, **options}
        self._prefer_tflite = prefer_tflite
        self._made: dict[str, Platform] = {}
        self._lock = threading.Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def get(self, name: str) -> Platform:
        """The platform; imports its framework the first time, which may take seconds.

        Raises InvalidArgument for a name that there is not, FailedPrecondition where the framework
        or an added class is not installed.
        """
        if name == "tensorflow" and self._prefer_tflite:
            return TfLitePreferred(partial(self._only, "tflite"), partial(self._only, name))
        return self._only(name)

    def _only(self, name: str) -> Platform:
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: str) -> Platform:
        if name not in self._table:
            known = ", ".join(sorted(self._table))
            raise InvalidArgument(f"there is no platform {name!r}; there are: {known}")
        module, _, attribute = self._table[name].partition(":")
        try:
            make = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if (error.name or "").startswith("serving"):
                raise  # a defect of ours, which nothing that is installed mends
            library = (error.name or "").partition(".")[0]
            remedy = f": pip install 'model-server[{name}]'" if name in PLATFORMS else ""
            raise FailedPrecondition(
                f"platform {name!r} needs {library}, which is not installed{remedy}"
            ) from error
        except AttributeError as error:
            raise FailedPrecondition(f"platform {name!r}: {error}") from error
        options = self._options.get(name)
        platform = cast(Platform, make() if options is None else make(options))
        return platform if name in PLATFORMS else GuardedPlatform(platform)
