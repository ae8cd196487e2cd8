"""What an export itself says of the session it is to be loaded into."""

from __future__ import annotations

import base64
import logging

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf.config_pb2 import ConfigProto
from tensorflow.core.protobuf.rewriter_config_pb2 import RewriterConfig

from serving.generated.saved_model_config_pb2 import SavedModelConfig, SessionOverrides

log = logging.getLogger(__name__)

_FILE = ("assets.extra", "saved_model_config.pb")


def overridden(config: ConfigProto, path: str) -> ConfigProto:
    """The settings for the SavedModel at ``path``: its own ``session_overrides`` merged into these.

    ``config`` is not changed. A file that does not parse is reported and has no effect, as in
    TensorFlow Serving. Raises tf.errors.OpError when reading fails.
    """
    file = tf.io.gfile.join(path, *_FILE)
    if not tf.io.gfile.exists(file):
        return config
    with tf.io.gfile.GFile(file, "rb") as opened:
        encoded = opened.read()
    try:
        found = SavedModelConfig.FromString(encoded)
    except DecodeError:
        log.warning("Unable to parse SavedModelConfig: %s", file)
        return config
    if not found.HasField("session_overrides"):
        return config
    log.info("%s changes the settings of its session", file)
    merged = ConfigProto()
    merged.CopyFrom(config)
    _merge(found.session_overrides, merged.graph_options.rewrite_options)
    return merged


def _merge(overrides: SessionOverrides, rewrites: RewriterConfig) -> None:
    """Optimizers that this TensorFlow does not have are passed over by it."""
    if overrides.HasField("remote_op_remap_config"):
        optimizer = _optimizer(rewrites, "remote_op_config_rewrite")
        optimizer.parameter_map["remote_op_rewrite_config"].s = base64.b64encode(
            overrides.remote_op_remap_config
        )
    if overrides.HasField("batch_op_rewriter_config"):
        optimizer = _optimizer(rewrites, "batch_op_rewriter")
        optimizer.parameter_map["batch_op_rewrite_config"].s = base64.b64encode(
            overrides.batch_op_rewriter_config
        )
    rewrites.disable_meta_optimizer = overrides.disable_meta_optimizer


def _optimizer(rewrites: RewriterConfig, name: str) -> RewriterConfig.CustomGraphOptimizer:
    for optimizer in rewrites.custom_optimizers:
        if optimizer.name == name:
            return optimizer
    return rewrites.custom_optimizers.add(name=name)
