"""From the command line to the options of every part of the server."""

from __future__ import annotations

import logging
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

from serving.apis.monitoring.monitoring_options import MonitoringOptions
from serving.config.batching_parameters import Batching, read_batching, tflite_batching
from serving.config.command_line import CommandLine
from serving.config.flags import CPUS
from serving.config.installed_platforms import installed_platforms
from serving.config.instances import Instances, instance_options
from serving.config.message_file import read_message
from serving.config.monitoring_config import read_monitoring
from serving.config.observability import observability_options
from serving.config.platform_config import read_platforms
from serving.config.tls_files import TlsFiles
from serving.core.bare_package import import_alone
from serving.core.errors import FailedPrecondition, InvalidArgument
from serving.core.extras import remedy
from serving.loaders.h2o_options import H2oOptions
from serving.loaders.jvm_options import JvmOptions
from serving.loaders.keras_options import KerasOptions
from serving.loaders.native_options import NativeOptions
from serving.loaders.platforms import AddedPlatform
from serving.loaders.python_options import PythonOptions
from serving.loaders.sklearn_options import SklearnOptions
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tflite_options import TfLiteOptions
from serving.observability.observability_options import ObservabilityOptions
from serving.request_logging.request_log_options import RequestLogOptions
from serving.server_core_options import LifecycleOptions
from serving.sources.model_cache import ModelCacheOptions
from serving.transport.grpc_options import GrpcOptions
from serving.transport.http_options import HttpOptions
from serving.transport.tls import TlsOptions

log = logging.getLogger(__name__)

_ABSOLUTE = re.compile(r"/|[A-Za-z][A-Za-z0-9+.-]*://")
_INT32 = range(-(2**31), 2**31)
_PORTS = range(2**16)


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Everything a server is started with. ``model_config_file`` replaces the single model.

    ``http`` is None when no REST API is wanted, ``batching`` when requests run one by one
    (``tflite_batching``: those for TensorFlow Lite models),
    ``monitoring`` when nothing is published about the server;
    ``rest_timeout_seconds`` is None when a REST call's run of the model may take any time. ``tls``
    is None when no port is encrypted; the REST port is with ``rest_ssl`` only.
    ``num_warm_up_iterations`` is how often each request of a warm-up file is run.
    """

    grpc: GrpcOptions
    http: HttpOptions | None
    tensorflow: TensorFlowOptions
    keras: KerasOptions
    jvm: JvmOptions
    h2o: H2oOptions
    tflite: TfLiteOptions
    sklearn: SklearnOptions
    python: PythonOptions
    native: NativeOptions
    added_platforms: Mapping[str, AddedPlatform]
    lifecycle: LifecycleOptions
    batching: Batching | None
    tflite_batching: Batching | None
    tls: TlsOptions | None
    tls_files: TlsFiles
    tls_poll_wait_seconds: int
    rest_ssl: bool
    instances: Instances
    monitoring: MonitoringOptions | None
    session_service: bool
    profiler: bool
    model_name: str
    model_base_path: str
    model_platform: str
    model_config_file: str
    rest_num_threads: int
    rest_timeout_seconds: float | None
    rest_enable_cors: bool
    rest_max_body_bytes: int
    rest_max_total_body_bytes: int
    enable_signature_method_name_check: bool
    enable_serialization_as_tensor_content: bool
    num_warm_up_iterations: int
    request_log: RequestLogOptions
    shutdown_delay_seconds: float
    shutdown_grace_seconds: float
    num_workers: int
    worker_hang_seconds: float
    observability: ObservabilityOptions

    @property
    def drain_seconds(self) -> float:
        """How long after the first signal calls may be in progress."""
        return self.shutdown_delay_seconds + self.shutdown_grace_seconds


def server_options(flags: CommandLine) -> ServerOptions:
    """Check the flags against each other and sort them by the part they configure.

    Raises InvalidArgument, with TensorFlow Serving's texts where it has one, for flags that
    contradict each other or name a file that does not parse, NotFound for a missing file, and
    FailedPrecondition for what needs TensorFlow where that is not installed.
    """
    grpc_address = _grpc_address(flags)
    _check_models(flags)
    _check_combinations(flags)
    tls_files = TlsFiles(
        flags["ssl_config_file"],
        flags["ssl_key_file"],
        flags["ssl_certificate_file"],
        flags["ssl_client_ca_file"],
    )
    timeout_in_ms: int = flags["rest_api_timeout_in_ms"]
    return ServerOptions(
        grpc=_grpc_options(flags, grpc_address),
        http=_http_options(flags),
        tensorflow=_tensorflow_options(flags),
        added_platforms=_added_platforms(flags),
        keras=KerasOptions(_tensorflow_options(flags), flags["allow_keras_code"]),
        jvm=_jvm_options(flags),
        h2o=H2oOptions(flags["h2o_genmodel_jar"], _jvm_options(flags)),
        tflite=TfLiteOptions(flags["prefer_tflite_model"], flags["num_tflite_pools"]),
        sklearn=_sklearn_options(flags),
        python=PythonOptions(flags["allow_python_models"]),
        native=NativeOptions(flags["probe_native_models"]),
        lifecycle=_lifecycle_options(flags),
        batching=_batching(flags),
        tflite_batching=_tflite_batching(flags),
        tls=tls_files.read(),
        tls_files=tls_files,
        tls_poll_wait_seconds=flags["ssl_config_file_poll_wait_seconds"],
        rest_ssl=flags["rest_api_ssl"],
        instances=_instances(flags),
        monitoring=_monitoring(flags),
        session_service=_session_service(flags),
        profiler=flags["enable_profiler"],
        model_name=flags["model_name"],
        model_base_path=flags["model_base_path"],
        model_platform=flags["model_platform"],
        model_config_file=flags["model_config_file"],
        rest_num_threads=_at_least(1, "rest_api_num_threads", flags),
        rest_timeout_seconds=timeout_in_ms / 1000 if timeout_in_ms > 0 else None,
        rest_enable_cors=flags["rest_api_enable_cors_support"],
        rest_max_body_bytes=_at_least(1, "rest_max_body_bytes", flags),
        rest_max_total_body_bytes=_rest_max_total_body_bytes(flags),
        enable_signature_method_name_check=flags["enable_signature_method_name_check"],
        enable_serialization_as_tensor_content=flags["enable_serialization_as_tensor_content"],
        request_log=_request_log_options(flags),
        num_warm_up_iterations=_num_warm_up_iterations(flags),
        shutdown_delay_seconds=_at_least(0, "shutdown_delay_seconds", flags),
        shutdown_grace_seconds=_at_least(0, "shutdown_grace_seconds", flags),
        num_workers=_num_workers(flags),
        worker_hang_seconds=_at_least(0, "worker_hang_seconds", flags),
        observability=observability_options(flags),
    )


def _added_platforms(flags: CommandLine) -> Mapping[str, AddedPlatform]:
    """Those of the file, and of distributions; what the operator wrote down comes first."""
    return {**installed_platforms(), **read_platforms(flags["platform_config_file"])}


def _jvm_options(flags: CommandLine) -> JvmOptions:
    return JvmOptions(_at_least(16, "jvm_max_heap_mb", flags))


def _sklearn_options(flags: CommandLine) -> SklearnOptions:
    trusted = [name.strip() for name in flags["trusted_skops_types"].split(",")]
    return SklearnOptions(flags["allow_pickle_models"], tuple(filter(None, trusted)))


def _check_models(flags: CommandLine) -> None:
    name, path = flags["model_name"], flags["model_base_path"]
    if flags["model_config_file"]:
        return
    if not path:
        raise InvalidArgument(
            "Both server_options.model_base_path and server_options.model_config_file are empty!"
        )
    if not _ABSOLUTE.match(path):
        raise InvalidArgument(
            f"Expected model {name} to have an absolute path or URI; got base_path()={path}"
        )


def _check_combinations(flags: CommandLine) -> None:
    if flags["batching_parameters_file"] and not flags["enable_batching"]:
        raise InvalidArgument(
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true."
        )
    parallelism = ("session_parallelism", "intra_op_parallelism", "inter_op_parallelism")
    if all(flags[f"tensorflow_{name}"] > 0 for name in parallelism):
        raise InvalidArgument(
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. "
            "You cannot configure all."
        )
    if flags["rest_api_ssl"] and not (flags["ssl_config_file"] or flags["ssl_key_file"]):
        raise InvalidArgument("rest_api_ssl is set without setting ssl_config_file")
    if flags["use_alts_credentials"]:
        if flags["ssl_config_file"]:
            raise InvalidArgument(
                "server_options.use_alts_credentials and server_options.ssl_config_file "
                "cannot both be set."
            )
        raise InvalidArgument(
            "server_options.use_alts_credentials is not supported; "
            "server_options.ssl_config_file encrypts as well."
        )


def _grpc_address(flags: CommandLine) -> str:
    """``host:port``, or empty where only a unix socket is wanted."""
    port = _port("port", flags)
    if flags["grpc_bind_address"]:
        host, port = _bind_address("grpc_bind_address", flags)
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    return f"0.0.0.0:{port}" if port else ""


def _grpc_options(flags: CommandLine, address: str) -> GrpcOptions:
    return GrpcOptions(
        address=address,
        socket_path=flags["grpc_socket_path"],
        max_threads=_at_least(1, "grpc_max_threads", flags),
        channel_arguments=_channel_arguments(flags["grpc_channel_arguments"]),
        health_service=flags["enable_grpc_healthcheck_service"],
        channelz=flags["enable_channelz"],
        engine=flags["grpc_engine"],
    )


def _http_options(flags: CommandLine) -> HttpOptions | None:
    new = partial(
        HttpOptions,
        engine=flags["rest_engine"],
        receive_timeout_seconds=_at_least(0, "rest_receive_timeout_seconds", flags),
        min_body_bytes_per_second=_at_least(0, "rest_min_body_bytes_per_second", flags),
    )
    if flags["rest_bind_address"]:
        host, port = _bind_address("rest_bind_address", flags)
        return new(host, port)
    port = _port("rest_api_port", flags)
    if port == 0:
        return None
    if port == flags["port"] and not flags["grpc_bind_address"]:
        log.error(
            "server_options.http_port cannot be same as grpc_port. Please use a different port "
            "for HTTP/REST API. Skipped exporting HTTP/REST API."
        )
        return None
    return new(port=port)


def _rest_max_total_body_bytes(flags: CommandLine) -> int:
    one: int = flags["rest_max_body_bytes"]
    most: int = flags["rest_max_total_body_bytes"] or 4 * one
    if most < one:
        raise InvalidArgument(
            f"rest_max_total_body_bytes must be at least rest_max_body_bytes, {one}, not {most}"
        )
    return most


def _tensorflow_options(flags: CommandLine) -> TensorFlowOptions:
    path: str = flags["tensorflow_session_config_file"]
    return TensorFlowOptions(
        tags=tuple(tag for tag in flags["saved_model_tags"].split(",") if tag),
        session_parallelism=flags["tensorflow_session_parallelism"],
        intra_op_parallelism=flags["tensorflow_intra_op_parallelism"],
        inter_op_parallelism=flags["tensorflow_inter_op_parallelism"],
        per_process_gpu_memory_fraction=flags["per_process_gpu_memory_fraction"],
        session_config=_session_config(path) if path else b"",
        mixed_precision=flags["mixed_precision"],
        xla_cpu_compilation_enabled=flags["xla_cpu_compilation_enabled"],
        xla_gpu_compilation_enabled=flags["xla_gpu_compilation_enabled"],
        custom_op_libraries=tuple(filter(None, flags["custom_op_libraries"].split(","))),
    )


def _lifecycle_options(flags: CommandLine) -> LifecycleOptions:
    return LifecycleOptions(
        file_system_poll_wait_seconds=flags["file_system_poll_wait_seconds"],
        model_config_file_poll_wait_seconds=flags["model_config_file_poll_wait_seconds"],
        num_load_threads=flags["num_load_threads"],
        num_unload_threads=flags["num_unload_threads"],
        num_initial_load_threads=4 * CPUS,
        max_num_load_retries=flags["max_num_load_retries"],
        load_retry_interval_seconds=flags["load_retry_interval_micros"] / 1_000_000,
        allow_version_labels_for_unavailable_models=flags[
            "allow_version_labels_for_unavailable_models"
        ],
        aspired_version_policy=flags["aspired_version_policy"],
        load_on_first_request=flags["load_on_first_request"],
        total_model_memory_limit_bytes=flags["total_model_memory_limit_bytes"],
        version_settle_seconds=flags["version_settle_seconds"],
        version_marker_file=flags["version_marker_file"],
        max_ended_versions=flags["max_ended_versions"],
        model_cache=ModelCacheOptions(flags["model_cache_dir"], flags["model_cache_max_bytes"]),
    )


def _num_warm_up_iterations(flags: CommandLine) -> int:
    """As in TensorFlow Serving, what is not above 0 says nothing, and they run once."""
    return max(1, flags["num_request_iterations_for_warmup"]) if flags["enable_model_warmup"] else 0


def _request_log_options(flags: CommandLine) -> RequestLogOptions:
    return RequestLogOptions(
        max_file_bytes=_at_least(1, "request_log_max_file_bytes", flags),
        max_file_seconds=_at_least(1, "request_log_max_file_seconds", flags),
        max_total_bytes=_at_least(0, "request_log_max_total_bytes", flags),
        dc=flags["request_log_dc"],
        task_index=flags["request_log_task_index"],
    )


def _batching(flags: CommandLine) -> Batching | None:
    if not flags["enable_batching"]:
        return None
    return read_batching(
        flags["batching_parameters_file"],
        per_version=flags["enable_per_model_batching_parameters"],
    )


def _instances(flags: CommandLine) -> Instances:
    count: int = _at_least(0, "instances_per_model", flags)
    try:
        return Instances(instance_options(count, filter(None, flags["devices"].split(","))))
    except InvalidArgument as error:
        raise InvalidArgument(f"devices: {error.message}") from None


def _monitoring(flags: CommandLine) -> MonitoringOptions | None:
    monitoring = read_monitoring(flags["monitoring_config_file"])
    if monitoring and not flags["rest_api_port"] and not flags["rest_bind_address"]:
        log.warning("the page of metrics is on the REST port, and there is none: no page")
        return None
    return monitoring


def _tflite_batching(flags: CommandLine) -> Batching | None:
    """None where --enable_batching is about all models."""
    num_interpreters: int = flags["num_tflite_interpreters_per_pool"]
    if num_interpreters <= 1 or flags["enable_batching"]:
        return None
    return tflite_batching(max(1, flags["num_tflite_pools"]), num_interpreters)


def _session_config(path: str) -> bytes:
    try:
        messages = import_alone("tensorflow.core.protobuf.config_pb2")
    except ModuleNotFoundError:
        raise FailedPrecondition(
            "tensorflow_session_config_file needs tensorflow, which is not installed: "
            f"{remedy('tensorflow')}"
        ) from None
    config: bytes = read_message(path, messages.ConfigProto).SerializeToString()
    return config


def _session_service(flags: CommandLine) -> bool:
    wanted: bool = flags["enable_session_service"]
    if wanted and not find_spec("tensorflow"):
        raise FailedPrecondition(
            "enable_session_service needs tensorflow, which is not installed: "
            f"{remedy('tensorflow')}"
        )
    return wanted


def _num_workers(flags: CommandLine) -> int:
    num_workers: int = _at_least(1, "num_workers", flags)
    if num_workers > 1 and flags["grpc_socket_path"]:
        raise InvalidArgument(
            f"num_workers must be 1, not {num_workers}, where grpc_socket_path is set: several "
            "processes can share a port, but not a unix socket"
        )
    if num_workers > 1 and not hasattr(socket, "SO_REUSEPORT"):
        raise InvalidArgument(
            f"num_workers must be 1, not {num_workers}: on this system processes can not share "
            "a port"
        )
    return num_workers


def _channel_arguments(text: str) -> tuple[tuple[str, int | str], ...]:
    """``k=v,k=v``; a value goes in as a number when it is an int32, else as text."""
    arguments: list[tuple[str, int | str]] = []
    for item in filter(None, text.split(",")):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise InvalidArgument(f"grpc_channel_arguments: expected key=value, got '{item}'")
        is_int32 = re.fullmatch(r"[+-]?[0-9]+", value) and int(value) in _INT32
        arguments.append((key, int(value) if is_int32 else value))
    return tuple(arguments)


def _bind_address(name: str, flags: CommandLine) -> tuple[str, int]:
    """The host, without the brackets of IPv6, and the port."""
    host, _, port = flags[name].rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not re.fullmatch(r"[0-9]+", port) or int(port) not in _PORTS:
        raise InvalidArgument(f"{name} must be host:port, not '{flags[name]}'")
    return host, int(port)


def _port(name: str, flags: CommandLine) -> int:
    port: int = flags[name]
    if port not in _PORTS:
        raise InvalidArgument(f"{name} must be a port from 0 to 65535, not {port}")
    return port


def _at_least(least: int, name: str, flags: CommandLine) -> Any:
    """The value of the flag, of the flag's own type."""
    if flags[name] < least:
        raise InvalidArgument(f"{name} must be at least {least}, not {flags[name]}")
    return flags[name]
