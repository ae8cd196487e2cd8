"""What the flags say of traces and logs."""

from __future__ import annotations

import re

from serving.config.command_line import CommandLine
from serving.core.errors import InvalidArgument
from serving.observability.observability_options import ObservabilityOptions, TracingOptions


def observability_options(flags: CommandLine) -> ObservabilityOptions:
    """Raises InvalidArgument for an endpoint or a ratio that is none."""
    return ObservabilityOptions(
        log_format=flags["log_format"],
        access_log=flags["access_log"],
        tracing=_tracing_options(flags) if flags["tracing_endpoint"] else None,
    )


def _tracing_options(flags: CommandLine) -> TracingOptions:
    endpoint: str = flags["tracing_endpoint"]
    if not re.match("https?://.", endpoint):
        raise InvalidArgument(
            f"tracing_endpoint must be a URL that begins with http:// or https://, not '{endpoint}'"
        )
    ratio: float = flags["tracing_sample_ratio"]
    if not 0 <= ratio <= 1:
        raise InvalidArgument(f"tracing_sample_ratio must be from 0 to 1, not {ratio}")
    # Not given, it is left to the variables of OpenTelemetry.
    is_given = "tracing_sample_ratio" in flags.given
    return TracingOptions(endpoint, ratio if is_given else None)
