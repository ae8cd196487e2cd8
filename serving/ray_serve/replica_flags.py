"""What a replica is told: the program's own flags, but for those that are Ray's to say."""

from __future__ import annotations

from collections.abc import Mapping

from serving.config.command_line import CommandLine, parse_command_line
from serving.core.errors import InvalidArgument

OF_RAY = frozenset(
    {
        "enable_channelz",
        "enable_grpc_healthcheck_service",
        "enable_profiler",
        "enable_session_service",
        "grpc_bind_address",
        "grpc_channel_arguments",
        "grpc_engine",
        "grpc_socket_path",
        "num_workers",
        "port",
        "rest_api_port",
        "rest_api_ssl",
        "rest_bind_address",
        "rest_engine",
        "rest_min_body_bytes_per_second",
        "rest_receive_timeout_seconds",
        "shutdown_delay_seconds",
        "ssl_certificate_file",
        "ssl_client_ca_file",
        "ssl_config_file",
        "ssl_config_file_poll_wait_seconds",
        "ssl_key_file",
        "use_alts_credentials",
        "version",
        "worker_hang_seconds",
    }
)
"""Flags about ports, the services beside those of models, and processes."""

_HAS_REST = "--rest_bind_address=localhost:0"
"""Nothing is bound there, but what is served over REST is only where there is a port for it."""

_HAS_NO_PROFILER = "--enable_profiler=false"
"""Ray's proxies pass no calls to it on."""


def replica_command_line(flags: Mapping[str, object]) -> CommandLine:
    """The flags by name, without dashes, as if they stood on the program's command line.

    Raises InvalidArgument, naming it, for what is no flag, a value that cannot be read, and a flag
    of :data:`OF_RAY`, which would do nothing.
    """
    arguments = [f"--{name}={_text(name, flags[name])}" for name in flags]
    command_line = parse_command_line(arguments)
    if command_line.unknown:
        raise InvalidArgument(f"unknown argument: {', '.join(command_line.unknown)}")
    if refused := sorted(command_line.given & OF_RAY):
        raise InvalidArgument(
            f"--{refused[0]} cannot be given to a replica: clients come through Ray's proxies, "
            "and Ray says how many processes there are"
        )
    return parse_command_line([*arguments, _HAS_REST, _HAS_NO_PROFILER])


def _text(name: str, value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    raise InvalidArgument(
        f"Couldn't interpret value {value} for flag {name}: neither text nor a number."
    )
