"""Monitoring as the file of the command line asks for it."""

from __future__ import annotations

from serving.apis.monitoring.monitoring_options import DEFAULT_PATH, MonitoringOptions
from serving.config.text_proto import read_text_proto
from serving.core.errors import InvalidArgument
from serving.generated.monitoring_config_pb2 import MonitoringConfig


def read_monitoring(path: str) -> MonitoringOptions | None:
    """What the MonitoringConfig file says; None where it, or an empty ``path``, has none published.

    Raises NotFound or InvalidArgument for a file that cannot be read, and InvalidArgument for a
    path that no request can have.
    """
    if not path:
        return None
    config = read_text_proto(path, MonitoringConfig).prometheus_config
    if not config.enable:
        return None
    if config.path and not config.path.startswith("/"):
        raise InvalidArgument(
            f"'{path}': prometheus_config.path must begin with a slash, not '{config.path}'"
        )
    return MonitoringOptions(config.path or DEFAULT_PATH)
