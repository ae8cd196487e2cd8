"""The message classes of TensorFlow Serving's model configuration, from whoever defines them.

Apart from the others, see :mod:`serving.apis.tensorflow_serving.tensorflow_messages`, as these come
without TensorFlow: the supervisor of several workers reads configurations and shall stay small.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING or not find_spec("tensorflow"):
    from serving.generated.tensorflow_serving_pb2 import (
        MODEL_TYPE_UNSPECIFIED,
        TENSORFLOW,
        ModelConfig,
        ModelServerConfig,
    )
else:
    from tensorflow_serving.config.model_server_config_pb2 import (
        MODEL_TYPE_UNSPECIFIED,
        TENSORFLOW,
        ModelConfig,
        ModelServerConfig,
    )

__all__ = ["MODEL_TYPE_UNSPECIFIED", "TENSORFLOW", "ModelConfig", "ModelServerConfig"]
