"""The platforms of one server, and the one place that imports a framework: when it is needed."""

from __future__ import annotations

import importlib
import logging
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import cast

from serving.core.errors import FailedPrecondition, InvalidArgument, ServingError
from serving.core.extras import remedy
from serving.loaders.guarded_platform import GuardedPlatform
from serving.loaders.platform import Platform
from serving.loaders.platform_detection import DETECTED, DetectedPlatform, platform_of
from serving.loaders.platform_table import PLATFORMS
from serving.loaders.tflite_preferred import TfLitePreferred

log = logging.getLogger(__name__)

_ON_TENSORFLOW = {"keras", "tensorflow"}
"""Platforms that import all of it."""


@dataclass(frozen=True, slots=True)
class AddedPlatform:
    """A platform that is not in the table: ``module:Class``, what it is made with, if that is
    anything, and the distribution that brings it, if one that is installed does.
    """

    target: str
    options: Mapping[str, object] | None = None
    distribution: str = ""


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
        self._added = dict(added or {})
        self._options = options
        self._prefer_tflite = prefer_tflite
        self._made: dict[str, Platform] = {}
        # Frameworks share libraries whose modules import each other: where two threads come upon
        # such a circle from two sides, an import fails. One framework at a time, then. Code of
        # others is waited for by nobody else.
        frameworks = threading.Lock()
        self._locks = {name: threading.Lock() for name in (*PLATFORMS, *self._added)}
        self._locks |= {name: frameworks for name, row in PLATFORMS.items() if row.extra}

    def __contains__(self, name: object) -> bool:
        return name == DETECTED or name in PLATFORMS or name in self._added

    def __iter__(self) -> Iterator[str]:
        """What a configuration may say, the empty name of detection included."""
        return iter((DETECTED, *PLATFORMS, *self._added))

    def name_of(self, name: str, path: str) -> str:
        """The platform that a model of the configured platform has at ``path``."""
        return platform_of(path) if name == DETECTED else name

    def get(self, name: str) -> Platform:
        """The platform; imports its framework the first time, which may take seconds.

        The empty name is the platform that asks the files of each version for theirs. Raises
        InvalidArgument for a name that there is not, FailedPrecondition where the framework or an
        added class is not installed or can not be used.
        """
        if name == DETECTED:
            return DetectedPlatform(self.get)
        if name == "tensorflow" and self._prefer_tflite:
            return TfLitePreferred(partial(self._only, "tflite"), partial(self._only, name))
        return self._only(name)

    def _only(self, name: str) -> Platform:
        if name in self._made:
            return self._made[name]
        if name not in self._locks:
            known = ", ".join(sorted(self._locks))
            raise InvalidArgument(f"there is no platform {name!r}; there are: {known}")
        with self._locks[name]:
            if name not in self._made:
                self._made[name] = self._make(name)
            return self._made[name]

    def _make(self, name: str) -> Platform:
        if name in PLATFORMS:
            return self._built_in(name)
        return GuardedPlatform(_added_platform(name, self._added[name]))

    def _built_in(self, name: str) -> Platform:
        row = PLATFORMS[name]
        if name in _ON_TENSORFLOW:
            _check_temporary_directory(name)
        try:
            make = _imported(row.target)
            return _made(make, self._options.get(name))
        except ModuleNotFoundError as error:
            if _is_ours(error):
                raise  # a defect, which nothing that is installed mends
            raise FailedPrecondition(f"{_needs(name, error)}: {remedy(row.extra)}") from error
        except (ImportError, OSError) as error:  # a library of it, or one that those need
            log.exception("the libraries of platform %r can not be used", name)
            raise FailedPrecondition(
                f"platform {name!r} has libraries that can not be used here "
                f"({type(error).__name__}, which the log shows): {remedy(row.extra)}"
            ) from error


def _check_temporary_directory(name: str) -> None:
    """TensorFlow asks for it in the midst of its import, which can not be tried again then."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        raise FailedPrecondition(
            f"platform {name!r} needs a temporary directory: {error.strerror}; TMPDIR can name "
            "another"
        ) from None


def _added_platform(name: str, added: AddedPlatform) -> Platform:
    """Code of others, which may fail in any way."""
    where = f"platform {name!r}"
    if added.distribution:
        where += f" of the distribution {added.distribution}"
    try:
        return _made(_imported(added.target), added.options)
    except ModuleNotFoundError as error:
        raise FailedPrecondition(_needs(name, error)) from error
    except AttributeError as error:
        raise FailedPrecondition(f"{where}: {error}") from error
    except ServingError:
        raise
    except Exception as error:
        log.exception("%s can not be used", where)
        raise FailedPrecondition(
            f"{where} can not be used: {type(error).__name__}, which the log shows"
        ) from error


def _imported(target: str) -> Callable[..., object]:
    module, _, attribute = target.partition(":")
    return cast(Callable[..., object], getattr(importlib.import_module(module), attribute))


def _made(make: Callable[..., object], options: object) -> Platform:
    return cast(Platform, make() if options is None else make(options))


def _is_ours(error: ModuleNotFoundError) -> bool:
    return (error.name or "").partition(".")[0] == "serving"


def _needs(name: str, error: ModuleNotFoundError) -> str:
    library = (error.name or "").partition(".")[0]
    return f"platform {name!r} needs {library}, which is not installed"
