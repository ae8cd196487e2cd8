"""The ``h2o`` platform: MOJOs of H2O, run by its own library in a Java virtual machine."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import jpype
import numpy as np

from serving.core.errors import FailedPrecondition, Internal, InvalidArgument
from serving.core.resources import ResourceAllocation
from serving.core.servable import Outputs, Signature
from serving.core.servable_id import ServableId
from serving.loaders.archive_size import check_archive
from serving.loaders.device import Device
from serving.loaders.function_servable import FunctionServable
from serving.loaders.h2o_model import MojoModel
from serving.loaders.h2o_options import H2oOptions
from serving.loaders.jvm import JavaClasses, java_classes, java_error
from serving.loaders.model_file import model_file, ram_of_file, read_model
from serving.loaders.tabular import check_device

_SUFFIXES = (".zip",)
_RAM_PER_BYTE_ON_DISK = 10  # the archive is compressed


class H2oPlatform:
    """Loads a MOJO, a ``.zip``. Runs on the processor. Thread-safe."""

    def __init__(self, options: H2oOptions | None = None) -> None:
        self._options = options or H2oOptions()

    def estimate(self, path: str) -> ResourceAllocation:
        """Ten times the file's size."""
        return ram_of_file(model_file(path, _SUFFIXES), _RAM_PER_BYTE_ON_DISK)

    def load(
        self, servable_id: ServableId, path: str, device: Device | None = None
    ) -> FunctionServable:
        """The model, which answers what H2O's ``predict`` does.

        Raises NotFound without a model, FailedPrecondition without Java or H2O's library,
        InvalidArgument for what is no whole MOJO, Unimplemented for a kind of model that is not
        served.
        """
        check_device(servable_id, device)
        file = model_file(path, _SUFFIXES)
        read_model(file)
        check_archive(file, "MOJO of H2O")
        _check_members(file)
        classes = self._classes()
        try:
            classes.use_services()
            model = MojoModel(str(file), classes)
        except jpype.JException as error:
            raise java_error(error, f"{file.name} can not be read as a MOJO of H2O") from error

        def compute(feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> Outputs:
            try:
                return model.predict(feeds, fetches)
            except jpype.JException as error:
                raise java_error(error, "the run failed", Internal) from error

        signature = Signature(model.inputs, model.outputs, method_name="tensorflow/serving/predict")
        return FunctionServable(servable_id, signature, compute)

    def _classes(self) -> JavaClasses:
        jar = self._options.genmodel_jar
        if not jar:
            raise FailedPrecondition(
                "platform 'h2o' needs H2O's own library, h2o-genmodel.jar; "
                "--h2o_genmodel_jar says where it is"
            )
        classes = java_classes((Path(jar),), self._options.jvm)
        try:
            classes["hex.genmodel.MojoModel"]
        except KeyError:
            raise FailedPrecondition(
                f"{Path(jar).name}, which --h2o_genmodel_jar names, is not H2O's library"
            ) from None
        return classes


def _check_members(file: Path) -> None:
    """H2O's reader does not look at checksums, and trusts what it reads."""
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise InvalidArgument(f"{file.name} is no whole MOJO of H2O: {error}") from error
    if damaged is not None:
        raise InvalidArgument(f"{file.name} is no whole MOJO of H2O: {damaged} is damaged")
    for name in names:
        if name.startswith("/") or ".." in PurePosixPath(name).parts or "\\" in name:
            raise InvalidArgument(f"{file.name} is no MOJO of H2O: it has a file called {name}")
    if "model.ini" not in names:
        raise InvalidArgument(f"{file.name} is no MOJO of H2O: it has no model.ini")
