"""The ``lightgbm`` platform: models of LightGBM, in its own text format."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import lightgbm
import numpy as np

from serving.core.dtypes import DType
from serving.core.errors import InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.model_file import model_file, ram_of_file, read_model
from serving.loaders.native_options import NativeOptions
from serving.loaders.native_probe import NativeProbe
from serving.loaders.signature_file import read_signature_file
from serving.loaders.tabular import PREDICT, check_device, matrix_input, tabular_servable

log = logging.getLogger(__name__)

_SUFFIXES = (".txt",)
_RAM_PER_BYTE_ON_DISK = 3
_BEGIN, _END = b"tree\n", b"\nend of parameters\n"


class LightGBMPlatform:
    """Loads a ``.txt`` that ``Booster.save_model`` wrote. Runs on the processor. Thread-safe."""

    def __init__(self, options: NativeOptions | None = None) -> None:
        self._probe = NativeProbe("lightgbm", options)
        lightgbm.register_logger(log)  # it would write to standard output

    def estimate(self, path: str) -> ResourceAllocation:
        """Three times the file's size."""
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The model; ``predict`` is what ``Booster.predict`` gives for ``x`` of doubles.

        Raises NotFound without a model, InvalidArgument for one that LightGBM does not read.
        """
        check_device(servable_id, device)
        file = model_file(path, _SUFFIXES)
        content = read_model(file)
        _check_whole(file.name, content)
        self._probe.check(path, file)
        booster = _booster(file.name, content)
        declared = read_signature_file(path)
        info = matrix_input(declared, booster.num_feature(), DType.DOUBLE)

        def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
            answer = np.asarray(booster.predict(feeds[info.name]))
            return [answer for _ in fetches]

        refusals = (ValueError, lightgbm.basic.LightGBMError)
        return tabular_servable(
            servable_id,
            {info.name: info},
            [PREDICT],
            compute,
            declared=declared,
            refusals=refusals,
        )


def _check_whole(name: str, content: bytes) -> None:
    """LightGBM's reader trusts what it reads, so what is plainly no whole model it never sees."""
    text = content.replace(b"\r\n", b"\n")
    if not text.startswith(_BEGIN) or _END not in text:
        raise InvalidArgument(f"{name} is no whole model of LightGBM")


def _booster(name: str, content: bytes) -> lightgbm.Booster:
    try:
        return lightgbm.Booster(model_str=content.replace(b"\r\n", b"\n").decode())
    except (lightgbm.basic.LightGBMError, ValueError) as error:
        raise InvalidArgument(f"{name} can not be read by LightGBM: {error}") from error
