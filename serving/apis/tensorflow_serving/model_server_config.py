"""The ModelServerConfig message, of a config file or a reload request, as configured models."""

from __future__ import annotations

import logging

from serving.apis.tensorflow_serving import config_messages as protos
from serving.core.errors import InvalidArgument
from serving.core.model_config import (
    AllVersions,
    LatestVersions,
    LoggingConfig,
    ModelConfig,
    SpecificVersions,
    TaskSampling,
    VersionPolicy,
)

log = logging.getLogger(__name__)


def decode_model_configs(
    config: protos.ModelServerConfig, *, detects_platforms: bool = False
) -> list[ModelConfig] | None:
    """The models listed, in order; None when the message says nothing at all.

    With ``detects_platforms``, a platform may be left out, which TensorFlow Serving refuses.
    Only what the message alone can tell is checked: names and paths are the server's business.
    Raises InvalidArgument for a custom config, also of logging, and for a model whose platform is
    missing, set twice or of an unknown type.
    """
    kind = config.WhichOneof("config")
    if kind is None:
        return None
    if kind != "model_config_list":
        raise InvalidArgument(f"ModelServerConfig must hold a model_config_list, not {kind}")
    models = config.model_config_list.config
    return [_decode_model_config(model, detects_platforms) for model in models]


def _decode_model_config(model: protos.ModelConfig, detects_platforms: bool) -> ModelConfig:
    return ModelConfig(
        name=model.name,
        base_path=model.base_path,
        platform=_platform(model, detects_platforms),
        version_policy=_version_policy(model),
        version_labels=dict(model.version_labels),
        logging=_logging_config(model) if model.HasField("logging_config") else None,
    )


def _logging_config(model: protos.ModelConfig) -> LoggingConfig:
    config, sampling = model.logging_config, model.logging_config.sampling_config
    if config.HasField("custom_logging_config"):
        raise InvalidArgument(
            f"Model {model.name}: logging_config.custom_logging_config is not supported"
        )
    return LoggingConfig(
        collector_type=config.log_collector_config.type,
        filename_prefix=config.log_collector_config.filename_prefix,
        sampling_rate=sampling.sampling_rate,
        task_sampling=tuple(
            TaskSampling(
                task.dc,
                task.task_index if task.HasField("task_index") else None,
                task.sampling_rate,
            )
            for task in sampling.per_task_sampling_configs
        ),
        encoded_sampling=sampling.SerializeToString(deterministic=True),
    )


def _platform(model: protos.ModelConfig, may_be_unset: bool) -> str:
    """The platform's name, also from the older ``model_type`` field; empty where it is unset."""
    kind, platform = model.model_type, str(model.model_platform)
    if kind == protos.MODEL_TYPE_UNSPECIFIED:
        if not platform and not may_be_unset:
            raise InvalidArgument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) "
                f"nor ModelServerConfig::model_platform, model name is {model.name}"
            )
        return platform
    if platform:
        raise InvalidArgument(
            "Illegal setting both ModelServerConfig::model_type (deprecated) "
            "and ModelServerConfig::model_platform."
        )
    if kind != protos.TENSORFLOW:
        raise InvalidArgument(f"ModelServerConfig::model_type choice {kind} not supported.")
    log.warning("model %s: model_type is deprecated, set model_platform", model.name)
    return "tensorflow"


def _version_policy(model: protos.ModelConfig) -> VersionPolicy:
    policy = model.model_version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return AllVersions()
    if kind == "specific":
        return SpecificVersions(frozenset(policy.specific.versions))
    return LatestVersions(policy.latest.num_versions or 1)  # 0 is a field left out
