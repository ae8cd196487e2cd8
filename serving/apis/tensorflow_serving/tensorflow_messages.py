"""The message classes of TensorFlow Serving's API, from whoever defines them in this process.

One process can hold one definition of a message. Where TensorFlow is installed it brings its own,
which models and clients in the process use too; where it is not, this project's stand in, with
the same names and field numbers, and so the same bytes. TensorFlow itself is imported with the
first model that needs it.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from serving.core.bare_package import bare_package

if TYPE_CHECKING or not find_spec("tensorflow"):
    from serving.generated.tensorflow_framework_pb2 import (
        Example,
        Feature,
        SignatureDef,
        TensorInfo,
        TensorProto,
    )
    from serving.generated.tensorflow_serving_pb2 import DESCRIPTOR as MODEL_SERVICE_FILE
    from serving.generated.tensorflow_serving_pb2 import DESCRIPTOR as PREDICTION_SERVICE_FILE
    from serving.generated.tensorflow_serving_pb2 import (
        ClassificationRequest,
        ClassificationResponse,
        ClassificationResult,
        GetModelMetadataRequest,
        GetModelMetadataResponse,
        GetModelStatusRequest,
        GetModelStatusResponse,
        Input,
        LogMetadata,
        ModelSpec,
        MultiInferenceRequest,
        MultiInferenceResponse,
        PredictionLog,
        PredictRequest,
        PredictResponse,
        RegressionRequest,
        RegressionResponse,
        RegressionResult,
        ReloadConfigRequest,
        ReloadConfigResponse,
        SignatureDefMap,
        StatusProto,
    )
else:
    with bare_package("tensorflow"):
        from tensorflow.core.example.example_pb2 import Example
        from tensorflow.core.example.feature_pb2 import Feature
        from tensorflow.core.framework.tensor_pb2 import TensorProto
        from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
        from tensorflow_serving.apis.classification_pb2 import (
            ClassificationRequest,
            ClassificationResponse,
            ClassificationResult,
        )
        from tensorflow_serving.apis.get_model_metadata_pb2 import (
            GetModelMetadataRequest,
            GetModelMetadataResponse,
            SignatureDefMap,
        )
        from tensorflow_serving.apis.get_model_status_pb2 import (
            GetModelStatusRequest,
            GetModelStatusResponse,
        )
        from tensorflow_serving.apis.inference_pb2 import (
            MultiInferenceRequest,
            MultiInferenceResponse,
        )
        from tensorflow_serving.apis.input_pb2 import Input
        from tensorflow_serving.apis.logging_pb2 import LogMetadata
        from tensorflow_serving.apis.model_management_pb2 import (
            ReloadConfigRequest,
            ReloadConfigResponse,
        )
        from tensorflow_serving.apis.model_pb2 import ModelSpec
        from tensorflow_serving.apis.model_service_pb2 import DESCRIPTOR as MODEL_SERVICE_FILE
        from tensorflow_serving.apis.predict_pb2 import PredictRequest, PredictResponse
        from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog
        from tensorflow_serving.apis.prediction_service_pb2 import (
            DESCRIPTOR as PREDICTION_SERVICE_FILE,
        )
        from tensorflow_serving.apis.regression_pb2 import (
            RegressionRequest,
            RegressionResponse,
            RegressionResult,
        )
        from tensorflow_serving.apis.status_pb2 import StatusProto

__all__ = [
    "MODEL_SERVICE_FILE",
    "PREDICTION_SERVICE_FILE",
    "ClassificationRequest",
    "ClassificationResponse",
    "ClassificationResult",
    "Example",
    "Feature",
    "GetModelMetadataRequest",
    "GetModelMetadataResponse",
    "GetModelStatusRequest",
    "GetModelStatusResponse",
    "Input",
    "LogMetadata",
    "ModelSpec",
    "MultiInferenceRequest",
    "MultiInferenceResponse",
    "PredictRequest",
    "PredictResponse",
    "PredictionLog",
    "RegressionRequest",
    "RegressionResponse",
    "RegressionResult",
    "ReloadConfigRequest",
    "ReloadConfigResponse",
    "SignatureDef",
    "SignatureDefMap",
    "StatusProto",
    "TensorInfo",
    "TensorProto",
]
