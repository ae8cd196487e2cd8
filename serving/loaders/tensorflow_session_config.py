"""TensorFlowOptions → ConfigProto, TensorFlow's own session settings."""

from __future__ import annotations

import logging

from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.config_pb2 import ConfigProto, OptimizerOptions
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from serving.core.errors import InvalidArgument
from serving.loaders.tensorflow_options import TensorFlowOptions

log = logging.getLogger(__name__)


def session_config(options: TensorFlowOptions) -> ConfigProto:
    """The settings of a session; raises InvalidArgument when the base is no ConfigProto."""
    try:
        config = ConfigProto.FromString(options.session_config)
    except DecodeError:
        raise InvalidArgument("session_config is not a serialized ConfigProto") from None
    # Graphs name the devices they were exported on; a machine without them must serve them too.
    config.allow_soft_placement = True
    config.gpu_options.per_process_gpu_memory_fraction = options.per_process_gpu_memory_fraction
    _set_parallelism(config, options)
    _set_mixed_precision(config, options.mixed_precision)
    if not (options.xla_cpu_compilation_enabled or options.xla_gpu_compilation_enabled):
        config.graph_options.optimizer_options.global_jit_level = OptimizerOptions.OFF
    return config


def _set_parallelism(config: ConfigProto, options: TensorFlowOptions) -> None:
    if options.intra_op_parallelism > 0 or options.inter_op_parallelism > 0:
        config.intra_op_parallelism_threads = options.intra_op_parallelism
        config.inter_op_parallelism_threads = options.inter_op_parallelism
    elif options.session_parallelism > 0:
        config.intra_op_parallelism_threads = options.session_parallelism
        config.inter_op_parallelism_threads = options.session_parallelism


def _set_mixed_precision(config: ConfigProto, mixed_precision: str) -> None:
    if mixed_precision == "bfloat16":
        rewrites = config.graph_options.rewrite_options
        rewrites.auto_mixed_precision_onednn_bfloat16 = RewriterConfig.ON
    elif mixed_precision:
        log.warning("mixed_precision %r is not known and has no effect", mixed_precision)
