"""The one table of command-line flags.

Names, types and defaults are those of ``tensorflow_model_server``, where it has the flag.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Mapping
from dataclasses import dataclass

Value = str | int | float | bool


class FlagType(enum.Enum):
    """How a flag's value is written."""

    STRING = "string"
    INT32 = "int32"
    INT64 = "int64"
    FLOAT = "float"
    BOOL = "bool"


class Support(enum.Enum):
    """How far a flag is honoured."""

    FULL = "does what it says"
    LATER = "not supported by this version yet"
    NO_EFFECT = "accepted, without a meaning in this server"


@dataclass(frozen=True, slots=True)
class Flag:
    """One row of the table. ``default`` has the type that ``type`` names."""

    name: str
    type: FlagType
    default: Value
    help: str
    support: Support = Support.FULL


def _schedulable_cpus() -> int:
    """The CPUs this process may run on, which a container or taskset may have reduced."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


CPUS = _schedulable_cpus()
"""What the defaults that depend on the machine are counted from."""

_STRING, _INT32, _INT64 = FlagType.STRING, FlagType.INT32, FlagType.INT64
_FLOAT, _BOOL = FlagType.FLOAT, FlagType.BOOL
_LATER, _NO_EFFECT = Support.LATER, Support.NO_EFFECT

GROUPS: Mapping[str, tuple[Flag, ...]] = {
    "Models": (
        Flag(
            "model_base_path",
            _STRING,
            "",
            "Directory of the model's version directories; absolute or a URI.",
        ),
        Flag(
            "model_name",
            _STRING,
            "default",
            "Name under which the one model of --model_base_path is served.",
        ),
        Flag(
            "model_platform",
            _STRING,
            "tensorflow",
            "Platform of the one model of --model_base_path; empty: the files of a version tell.",
        ),
        Flag(
            "model_config_file",
            _STRING,
            "",
            "ModelServerConfig in text format, JSON or YAML; replaces the three flags above.",
        ),
        Flag(
            "model_config_file_poll_wait_seconds",
            _INT32,
            0,
            "Read --model_config_file again every so many seconds; 0 or less: never.",
        ),
        Flag(
            "file_system_poll_wait_seconds",
            _INT32,
            1,
            "Seconds between two looks for new versions; 0: look once; negative: never look.",
        ),
        Flag(
            "version_settle_seconds",
            _FLOAT,
            1.0,
            "Take a version only when its files have not changed for so long; 0: at once.",
        ),
        Flag(
            "version_marker_file",
            _STRING,
            "",
            "Take a version only when its directory holds a file of this name.",
        ),
        Flag(
            "model_cache_dir",
            _STRING,
            "",
            "Where copies of remote versions are kept; empty: model_server in the user's cache.",
        ),
        Flag(
            "model_cache_max_bytes",
            _INT64,
            0,
            "Most bytes that copies of remote versions may take on disk; 0: the disk's size.",
        ),
        Flag(
            "max_ended_versions",
            _INT32,
            100,
            "Versions of each model that GetModelStatus remembers after their end.",
        ),
        Flag(
            "saved_model_tags",
            _STRING,
            "serve",
            "Comma-separated tags of the graph to load from a SavedModel.",
        ),
        Flag(
            "allow_version_labels_for_unavailable_models",
            _BOOL,
            False,
            "Let a label that is not in use yet point to a version that is not available.",
        ),
        Flag(
            "enable_signature_method_name_check",
            _BOOL,
            False,
            "Check the method_name of signatures on every request.",
        ),
        Flag(
            "enable_serialization_as_tensor_content",
            _BOOL,
            False,
            "Answer Predict with tensor_content instead of the typed fields.",
        ),
    ),
    "Loading": (
        Flag(
            "aspired_version_policy",
            _STRING,
            "availability_preserving",
            "availability_preserving: load the new version first; resource_preserving: free the "
            "old one first.",
        ),
        Flag(
            "load_on_first_request",
            _BOOL,
            False,
            "Load a version when it is first asked for; with the limit below, the least recently "
            "used make room.",
        ),
        Flag(
            "total_model_memory_limit_bytes",
            _INT64,
            0,
            "Most bytes that all models may take by their estimates; 0: no limit.",
        ),
        Flag(
            "num_load_threads",
            _INT32,
            0,
            "Threads that load versions after the first round; 0: one after another.",
        ),
        Flag(
            "num_unload_threads", _INT32, 0, "Threads that unload versions; 0: one after another."
        ),
        Flag("max_num_load_retries", _INT32, 5, "How often a failed load is tried again."),
        Flag(
            "load_retry_interval_micros",
            _INT64,
            60_000_000,
            "Microseconds between two attempts to load; negative: none.",
        ),
        Flag(
            "instances_per_model",
            _INT32,
            0,
            "How often each version is loaded, to run several batches or requests at once; 0: once "
            "for each of --devices, or once.",
        ),
        Flag(
            "devices",
            _STRING,
            "",
            "Comma-separated devices, such as gpu:0,gpu:1 or cpu:0, that the instances of each "
            "version are given in turn; empty: the platform chooses.",
        ),
        Flag(
            "enable_model_warmup",
            _BOOL,
            True,
            "Replay assets.extra/tf_serving_warmup_requests while loading.",
        ),
        Flag(
            "num_request_iterations_for_warmup",
            _INT32,
            0,
            "Replay each warm-up request this often; 0: once.",
        ),
        Flag(
            "flush_filesystem_caches",
            _BOOL,
            True,
            "Drop file system caches after loading.",
            _NO_EFFECT,
        ),
        Flag(
            "remove_unused_fields_from_bundle_metagraph",
            _BOOL,
            True,
            "Keep only the signatures of a loaded graph's description.",
            _NO_EFFECT,
        ),
    ),
    "gRPC": (
        Flag(
            "port",
            _INT32,
            8500,
            "TCP port on 0.0.0.0; 0: none, then --grpc_socket_path must be given.",
        ),
        Flag(
            "grpc_bind_address",
            _STRING,
            "",
            "host:port to listen on instead of 0.0.0.0 and --port; port 0: the system picks one.",
        ),
        Flag("grpc_socket_path", _STRING, "", "Unix socket to listen on as well; may be relative."),
        Flag(
            "grpc_max_threads",
            _INT32,
            4 * CPUS,
            "Threads on which calls are worked on at the same time, where that takes long.",
        ),
        Flag(
            "grpc_engine",
            _STRING,
            "completion_queue",
            "What carries gRPC calls: completion_queue, where no thread waits for a call, or"
            " threaded, grpcio's public server with a thread for each call.",
        ),
        Flag(
            "grpc_channel_arguments",
            _STRING,
            "",
            "Comma-separated key=value arguments of the gRPC server.",
        ),
        Flag(
            "enable_grpc_healthcheck_service",
            _BOOL,
            False,
            "Offer the service grpc.health.v1.Health.",
        ),
        Flag(
            "enable_channelz",
            _BOOL,
            False,
            "Offer the service grpc.channelz.v1.Channelz; needs grpcio-channelz.",
        ),
        Flag(
            "enable_session_service",
            _BOOL,
            False,
            "Offer SessionService, whose clients may run every operation of a model's graph.",
        ),
        Flag(
            "ssl_config_file",
            _STRING,
            "",
            "Text-format SSLConfig with PEM texts; makes the gRPC ports use TLS.",
        ),
        Flag(
            "ssl_config_file_poll_wait_seconds",
            _INT32,
            60,
            "Read the files of TLS again every so many seconds; 0 or less: never.",
        ),
        Flag(
            "ssl_key_file",
            _STRING,
            "",
            "PEM file of the private key, instead of --ssl_config_file.",
        ),
        Flag("ssl_certificate_file", _STRING, "", "PEM file of the key's certificate."),
        Flag(
            "ssl_client_ca_file",
            _STRING,
            "",
            "PEM file of the authorities of clients, which then must show a certificate.",
        ),
        Flag(
            "use_alts_credentials",
            _BOOL,
            False,
            "Google's ALTS on the gRPC ports; refused, use --ssl_config_file.",
        ),
    ),
    "REST": (
        Flag(
            "rest_api_port",
            _INT32,
            0,
            "TCP port of the REST API on every address, IPv6 and IPv4; 0: no REST API.",
        ),
        Flag(
            "rest_bind_address",
            _STRING,
            "",
            "host:port to listen on instead of --rest_api_port; port 0: the system picks one.",
        ),
        Flag("rest_api_num_threads", _INT32, 4 * CPUS, "Threads that work for REST calls."),
        Flag(
            "rest_api_timeout_in_ms",
            _INT32,
            30_000,
            "Most milliseconds that a REST call's run of the model may take; 0 or less: no limit.",
        ),
        Flag(
            "rest_api_enable_cors_support",
            _BOOL,
            False,
            "Send the headers that let browsers call from other origins.",
        ),
        Flag("rest_api_ssl", _BOOL, False, "Use TLS for the REST port too."),
        Flag(
            "rest_engine",
            _STRING,
            "httptools",
            "What carries REST: httptools, for HTTP/1.1, or hypercorn, slower, for HTTP/2 as well.",
        ),
        Flag(
            "rest_max_body_bytes",
            _INT64,
            256 * 2**20,
            "Most bytes of a REST request's body, as sent and as decompressed; more: status 413.",
        ),
        Flag(
            "rest_max_total_body_bytes",
            _INT64,
            0,
            "Most bytes of the bodies of all REST requests that are not answered yet; more: status "
            "503. 0: four times --rest_max_body_bytes.",
        ),
        Flag(
            "rest_receive_timeout_seconds",
            _FLOAT,
            60.0,
            "How long the head of a REST request may take, its body may pause and its client may "
            "take nothing of the answer; 0: any time.",
        ),
        Flag(
            "rest_min_body_bytes_per_second",
            _INT32,
            1024,
            "Fewest bytes a second that the body of a REST request must bring, as an average over "
            "--rest_receive_timeout_seconds; less: status 408. 0: it only must not pause.",
        ),
    ),
    "Request log": (
        Flag(
            "request_log_max_file_bytes",
            _INT64,
            64 << 20,
            "Begin another file of a request log when one would become larger than this.",
        ),
        Flag(
            "request_log_max_file_seconds",
            _INT32,
            3600,
            "Begin another file of a request log when one is this old.",
        ),
        Flag(
            "request_log_max_total_bytes",
            _INT64,
            1 << 30,
            "Delete the oldest files of a request log to stay below this; 0: no limit.",
        ),
        Flag(
            "request_log_dc",
            _STRING,
            "",
            "The data center that this server is in, for per_task_sampling_configs.",
        ),
        Flag(
            "request_log_task_index",
            _INT32,
            0,
            "Which of the servers of a fleet this is, for per_task_sampling_configs.",
        ),
    ),
    "Batching": (
        Flag("enable_batching", _BOOL, False, "Join requests into batches."),
        Flag("batching_parameters_file", _STRING, "", "Text-format BatchingParameters."),
        Flag(
            "enable_per_model_batching_parameters",
            _BOOL,
            False,
            "Read batching_params.pbtxt from each version's directory.",
        ),
    ),
    "TensorFlow": (
        Flag(
            "tensorflow_session_parallelism",
            _INT64,
            0,
            "Threads within and between operations; 0: TensorFlow chooses.",
        ),
        Flag(
            "tensorflow_intra_op_parallelism",
            _INT64,
            0,
            "Threads within one operation; 0: TensorFlow chooses.",
        ),
        Flag(
            "tensorflow_inter_op_parallelism",
            _INT64,
            0,
            "Operations run at the same time; 0: TensorFlow chooses.",
        ),
        Flag(
            "tensorflow_session_config_file",
            _STRING,
            "",
            "ConfigProto to start from, in text format, JSON, YAML (.yaml, .yml) or binary (.pb).",
        ),
        Flag(
            "custom_op_libraries",
            _STRING,
            "",
            "Comma-separated libraries with operations for TensorFlow, or directories of .so.",
        ),
        Flag(
            "per_process_gpu_memory_fraction",
            _FLOAT,
            0.0,
            "Share of each GPU's memory to take, 0 to 1; 0: TensorFlow chooses.",
        ),
        Flag(
            "allow_keras_code",
            _BOOL,
            False,
            "Run the Python code that Keras models bring, as Lambda layers do; trust every file.",
        ),
        Flag(
            "h2o_genmodel_jar",
            _STRING,
            "",
            "Path of H2O's h2o-genmodel.jar, which runs MOJOs; without it there are none.",
        ),
        Flag(
            "jvm_max_heap_mb",
            _INT32,
            1024,
            "MiB of heap that all models which run in Java, as PMML does, have together.",
        ),
        Flag("mixed_precision", _STRING, "", "bfloat16: compute in bfloat16 where that is safe."),
        Flag("xla_cpu_compilation_enabled", _BOOL, False, "Allow XLA compilation for CPUs."),
        Flag("xla_gpu_compilation_enabled", _BOOL, False, "Allow XLA compilation for GPUs."),
        Flag(
            "platform_config_file",
            _STRING,
            "",
            "JSON or YAML (.yaml, .yml) that adds platforms, with classes from Python packages.",
        ),
        Flag(
            "allow_pickle_models",
            _BOOL,
            False,
            "Serve scikit-learn models from pickles, which may run any code as they are read.",
        ),
        Flag(
            "allow_python_models",
            _BOOL,
            False,
            "Serve Python classes, each in a process of its own, which may do what the server may.",
        ),
        Flag(
            "probe_native_models",
            _BOOL,
            True,
            "Load models of XGBoost, LightGBM and CatBoost in another process first: it may crash.",
        ),
        Flag(
            "trusted_skops_types",
            _STRING,
            "",
            "Comma-separated types that .skops files may hold beside those that skops trusts.",
        ),
        Flag(
            "thread_pool_factory_config_file",
            _STRING,
            "",
            "Text-format ThreadPoolFactoryConfig.",
            _NO_EFFECT,
        ),
        Flag("skip_initialize_tpu", _BOOL, False, "Leave TPUs as they are.", _NO_EFFECT),
    ),
    "TensorFlow Lite": (
        Flag(
            "prefer_tflite_model",
            _BOOL,
            False,
            "Serve model.tflite instead of the SavedModel where a version has one.",
        ),
        Flag(
            "num_tflite_pools",
            _INT32,
            CPUS,
            "Interpreters of each TensorFlow Lite model: so many of its runs are done at once.",
        ),
        Flag(
            "num_tflite_interpreters_per_pool",
            _INT32,
            1,
            "Above 1: join requests into batches of this part of 500 rows.",
        ),
    ),
    "Traces and logs": (
        Flag("log_level", _STRING, "info", "debug, info, warning or error."),
        Flag("log_format", _STRING, "text", "text, or json: one JSON object a line."),
        Flag(
            "access_log",
            _STRING,
            "",
            "File for one line about each call, or stdout; empty: none.",
        ),
        Flag(
            "tracing_endpoint",
            _STRING,
            "",
            "URL of an OpenTelemetry collector (OTLP over gRPC) to send traces to; empty: none.",
        ),
        Flag(
            "tracing_sample_ratio",
            _FLOAT,
            1.0,
            "Share of the calls to trace, 0 to 1; clients that trace theirs have them traced.",
        ),
    ),
    "The server itself": (
        Flag(
            "shutdown_delay_seconds",
            _FLOAT,
            0.0,
            "Seconds to answer on after the first signal, while health says NOT_SERVING.",
        ),
        Flag(
            "shutdown_grace_seconds",
            _FLOAT,
            10.0,
            "Seconds that calls in progress have to end after the delay.",
        ),
        Flag(
            "num_workers",
            _INT32,
            1,
            "Processes that share the ports, each with the models in its own memory; 1: no others.",
        ),
        Flag(
            "worker_hang_seconds",
            _FLOAT,
            0.0,
            "Seconds without an answer after which a worker that serves is replaced; 0: never.",
        ),
        Flag(
            "monitoring_config_file",
            _STRING,
            "",
            "Text-format MonitoringConfig; has metrics published on the REST port.",
        ),
        Flag("enable_profiler", _BOOL, True, "Offer the service tensorflow.ProfilerService."),
        Flag("version", _BOOL, False, "Print the versions and exit."),
    ),
}

FLAGS: Mapping[str, Flag] = {flag.name: flag for group in GROUPS.values() for flag in group}
