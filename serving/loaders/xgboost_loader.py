"""The ``xgboost`` platform: models of XGBoost, in its JSON, UBJSON or old binary format."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import xgboost

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.model_file import model_file, ram_of_file, read_model, read_start
from serving.loaders.native_options import NativeOptions
from serving.loaders.native_probe import NativeProbe
from serving.loaders.signature_file import SIGNATURE_FILE, read_signature_file
from serving.loaders.tabular import PREDICT, check_device, matrix_input, tabular_servable
from serving.loaders.xgboost_binary import document_of, is_binary, num_trees
from serving.loaders.xgboost_json import MOST_LEVELS, is_shallow
from serving.loaders.xgboost_ubjson import is_whole
from serving.loaders.xgboost_ubjson_writer import encoded

_SUFFIXES = (".json", ".ubj", ".bst", ".model", ".bin", ".deprecated")
_RAM_PER_BYTE_ON_DISK = 3
_RAM_PER_BYTE_OF_BINARY, _RAM_PER_TREE_OF_BINARY = 5, 5000
"""Measured with trees of 1 to 255 nodes."""

_BYTES_WITH_NUMBER_OF_TREES = 4096
_ORIGIN = re.compile(r"^\[[\d:]+\] \S+:\d+: ")
_JSON = re.compile(rb'\s*\{\s*["}]')  # UBJSON has the kind of a length after its brace
_TREE_BOOSTERS = {"gbtree", "dart"}


class XGBoostPlatform:
    """Loads a ``.json`` or ``.ubj``, or one of the other endings that holds one of these two, or
    the binary format that XGBoost wrote until 3.0.

    Runs on the processor. Thread-safe.
    """

    def __init__(self, options: NativeOptions | None = None) -> None:
        self._probe = NativeProbe("xgboost", options)

    def estimate(self, path: str) -> ResourceAllocation:
        """Three times the file's size; five times, and 5,000 bytes for each tree, where the format
        is the binary one, of which another has to be made.
        """
        file = _file(path)
        count = num_trees(read_start(file, _BYTES_WITH_NUMBER_OF_TREES))
        if count is None:
            return ram_of_file(file, _RAM_PER_BYTE_ON_DISK)
        return ram_of_file(file, _RAM_PER_BYTE_OF_BINARY, count * _RAM_PER_TREE_OF_BINARY)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The model; ``predict`` is what ``Booster.predict`` gives for ``x`` of floats, by the
        trees up to the best iteration where an estimator that stopped early wrote the file.

        Raises NotFound without a model, InvalidArgument for one that XGBoost does not read.
        """
        check_device(servable_id, device)
        booster = read_booster(path, self._probe)
        declared = read_signature_file(path)
        info = matrix_input(declared, booster.num_features(), DType.FLOAT)
        predict = _prediction(booster)

        def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
            answer = predict(feeds[info.name])
            return [answer for _ in fetches]

        return tabular_servable(
            servable_id, {info.name: info}, [PREDICT], compute, declared=declared
        )


def read_booster(path: str, probe: NativeProbe | None = None) -> xgboost.Booster:
    """The model of a version, tried before by the probe. Raises as :meth:`XGBoostPlatform.load`."""
    file = _file(path)
    content = _checked(file.name, read_model(file))
    if probe:
        probe.check(path, file)
    return _booster(file.name, content)


def _file(path: str) -> Path:
    return model_file(path, _SUFFIXES, ignored=(SIGNATURE_FILE,))


def _checked(name: str, content: bytes) -> bytes:
    """The model in a format that today's XGBoost reads, and whole. Raises InvalidArgument."""
    if is_binary(content):
        try:
            return encoded(document_of(content))
        except InvalidArgument as error:
            raise InvalidArgument(
                f"{name} is no whole model of XGBoost's binary format: {error.message}"
            ) from error
    if not content.lstrip().startswith(b"{"):
        raise InvalidArgument(
            f"{name} is no model of XGBoost: it is neither JSON nor UBJSON, nor does it begin as "
            "its binary format"
        )
    if _JSON.match(content):
        if not is_shallow(content):
            raise InvalidArgument(
                f"{name} is no model of XGBoost: it has more than {MOST_LEVELS} levels"
            )
    elif not is_whole(content):
        raise InvalidArgument(f"{name} is no whole model of XGBoost: it is cut short")
    return content


def _booster(name: str, content: bytes) -> xgboost.Booster:
    try:
        return xgboost.Booster(model_file=bytearray(content))
    except ValueError as error:  # which XGBoost's own is, as that of a text that is no UTF-8
        raise InvalidArgument(f"{name} is no whole model of XGBoost: {_reason(error)}") from error


def _prediction(booster: xgboost.Booster) -> Callable[[np.ndarray], np.ndarray]:
    """Trees are run on the array itself, which linear models can not be."""
    learner = json.loads(booster.save_config())["learner"]
    if learner["gradient_booster"]["name"] in _TREE_BOOSTERS:
        iterations = _iterations(booster)
        return lambda rows: np.asarray(
            booster.inplace_predict(rows, iteration_range=iterations, validate_features=False)
        )
    return lambda rows: booster.predict(xgboost.DMatrix(rows), validate_features=False)


def _iterations(booster: xgboost.Booster) -> tuple[int, int]:
    """As XGBoost's estimators predict, which leave their name in files; (0, 0) is all."""
    best = booster.attr("best_iteration") or ""
    if booster.attr("scikit_learn") is None or not re.fullmatch(r"[0-9]{1,9}", best):
        return 0, 0
    return 0, int(best) + 1


def _reason(error: ValueError) -> str:
    """Without the place in XGBoost's own program before it, and the stack after."""
    return _ORIGIN.sub("", str(error).strip()).partition("\n")[0].strip()
