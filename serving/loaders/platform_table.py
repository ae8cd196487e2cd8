"""The platforms that the server brings: what each is called, which files are its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelFile:
    """Files that are models, by name: ``*`` in ``pattern`` stands for any text. A folder's name
    and ``/`` before it say in which folder they are.

    Where other files have such names too, ``begins`` is a regular expression for how the content
    of these begins, within the first kilobyte.
    """

    pattern: str
    begins: bytes = b""

    @property
    def is_exact(self) -> bool:
        """Whether it is one name, and not many."""
        return "*" not in self.pattern


@dataclass(frozen=True, slots=True)
class PlatformRow:
    """One platform: ``module:Class``, the extra of the distribution that brings its libraries, the
    files that its models are recognised by, and names or patterns that mean nothing where such a
    file is.
    """

    target: str
    extra: str = ""
    files: tuple[ModelFile, ...] = ()
    beside: tuple[str, ...] = ()


_CNTK_2 = rb"\x08\x01\x12"  # a dictionary of version 1, and its first entry
_OLD_XGBOOST = rb"(?s)(?:binf)?.{136}.\x00{7}\w+:\w+.\x00{7}(?:gbtree|dart|gblinear)"
"""136 bytes of numbers, then the names of the objective and the booster, after their lengths."""

PLATFORMS: Mapping[str, PlatformRow] = {
    "caffe2": PlatformRow(
        "serving.loaders.caffe2_loader:Caffe2Platform",
        "onnx",
        files=(ModelFile("predict_net.pb"), ModelFile("init_net.pb")),
    ),
    "catboost": PlatformRow(
        "serving.loaders.catboost_loader:CatBoostPlatform", "catboost", files=(ModelFile("*.cbm"),)
    ),
    "cntk": PlatformRow(
        "serving.loaders.cntk_loader:CntkPlatform",
        "onnx",
        files=(
            ModelFile("*.model", begins=_CNTK_2),
            ModelFile("*.cntkmodel"),
            ModelFile("*.dnn"),
        ),
    ),
    "h2o": PlatformRow(
        "serving.loaders.h2o_loader:H2oPlatform",
        "jvm",
        files=(
            ModelFile(
                "*.zip", begins=rb"(?s)PK\x03\x04.{26}(?:model\.ini|trees/|models/|boosterBytes)"
            ),
        ),
    ),
    "hashmap": PlatformRow(
        "serving.loaders.hashmap_loader:HashmapPlatform", files=(ModelFile("*.csv"),)
    ),
    "keras": PlatformRow(
        "serving.loaders.keras_loader:KerasPlatform",
        "keras",
        files=(ModelFile("*.keras"), ModelFile("*.h5"), ModelFile("*.hdf5")),
    ),
    "lightgbm": PlatformRow(
        "serving.loaders.lightgbm_loader:LightGBMPlatform",
        "lightgbm",
        files=(ModelFile("*.txt", begins=rb"tree\r?\n"),),
    ),
    "mxnet": PlatformRow(
        "serving.loaders.mxnet_loader:MXNetPlatform", "mxnet", files=(ModelFile("*-symbol.json"),)
    ),
    "onnx": PlatformRow(
        "serving.loaders.onnx_loader:OnnxPlatform", "onnx", files=(ModelFile("*.onnx"),)
    ),
    "pmml": PlatformRow(
        "serving.loaders.pmml_loader:PmmlPlatform", "jvm", files=(ModelFile("*.pmml"),)
    ),
    "python": PlatformRow(
        "serving.loaders.python_loader:PythonPlatform",
        files=(ModelFile("model.py"),),
        beside=("*",),
    ),
    "pytorch": PlatformRow(
        "serving.loaders.pytorch_loader:PyTorchPlatform",
        "torch",
        files=(ModelFile("*.pt2"), ModelFile("*.pt"), ModelFile("*.pth"), ModelFile("*.ts")),
    ),
    "sklearn": PlatformRow(
        "serving.loaders.sklearn_loader:SklearnPlatform",
        "sklearn",
        files=tuple(map(ModelFile, ("*.skops", "*.joblib", "*.pkl", "*.pickle"))),
    ),
    "spark": PlatformRow(
        "serving.loaders.spark_loader:SparkPlatform",
        "spark",
        files=(ModelFile("metadata/part-*"),),
    ),
    "tensorflow": PlatformRow(
        "serving.loaders.tensorflow_loader:TensorFlowPlatform",
        "tensorflow",
        files=(
            ModelFile("saved_model.pb"),
            ModelFile("saved_model.pbtxt"),
            ModelFile("export.meta"),
            ModelFile("*.pb"),
        ),
        beside=("fingerprint.pb", "keras_metadata.pb", "model.tflite"),
    ),
    "tflite": PlatformRow(
        "serving.loaders.tflite_loader:TfLitePlatform", "tflite", files=(ModelFile("model.tflite"),)
    ),
    "xgboost": PlatformRow(
        "serving.loaders.xgboost_loader:XGBoostPlatform",
        "xgboost",
        files=(
            ModelFile("*.json", begins=rb"\s*\{\s*\"learner\""),
            ModelFile("*.model", begins=rb"(?!" + _CNTK_2 + rb")"),
            *map(ModelFile, ("*.ubj", "*.bst")),
            *(ModelFile(name, begins=_OLD_XGBOOST) for name in ("*.bin", "*.deprecated")),
        ),
    ),
}
"""Platform name, as model configurations spell it → its row."""
