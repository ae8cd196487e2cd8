"""The table of flags, how a command line is read against it, and what is said about it."""

import os

import pytest

from serving.config import command_line
from serving.config.command_line import help_text, parse_command_line, warnings
from serving.config.flags import FLAGS, Flag, FlagType, Support
from serving.core.errors import InvalidArgument

CPUS = len(os.sched_getaffinity(0))

UPSTREAM = """
port int32 8500
grpc_socket_path string
rest_api_port int32 0
rest_api_num_threads int32 4xCPUs
rest_api_timeout_in_ms int32 30000
rest_api_enable_cors_support bool false
enable_batching bool false
batching_parameters_file string
enable_per_model_batching_parameters bool false
allow_version_labels_for_unavailable_models bool false
model_config_file string
model_config_file_poll_wait_seconds int32 0
model_name string default
model_base_path string
num_load_threads int32 0
num_unload_threads int32 0
max_num_load_retries int32 5
load_retry_interval_micros int64 60000000
file_system_poll_wait_seconds int32 1
flush_filesystem_caches bool true
tensorflow_session_parallelism int64 0
tensorflow_intra_op_parallelism int64 0
tensorflow_inter_op_parallelism int64 0
tensorflow_session_config_file string
per_process_gpu_memory_fraction float 0
use_alts_credentials bool false
ssl_config_file string
platform_config_file string
saved_model_tags string serve
grpc_channel_arguments string
grpc_max_threads int32 4xCPUs
enable_model_warmup bool true
num_request_iterations_for_warmup int32 0
version bool false
monitoring_config_file string
remove_unused_fields_from_bundle_metagraph bool true
prefer_tflite_model bool false
num_tflite_pools int32 CPUs
num_tflite_interpreters_per_pool int32 1
enable_signature_method_name_check bool false
xla_cpu_compilation_enabled bool false
xla_gpu_compilation_enabled bool false
enable_profiler bool true
thread_pool_factory_config_file string
mixed_precision string
skip_initialize_tpu bool false
enable_grpc_healthcheck_service bool false
enable_serialization_as_tensor_content bool false
"""
ROWS = [(*line.split(" "), "")[:3] for line in UPSTREAM.strip().splitlines()]
OWN = {
    "access_log",
    "allow_keras_code",
    "allow_pickle_models",
    "allow_python_models",
    "aspired_version_policy",
    "custom_op_libraries",
    "devices",
    "enable_channelz",
    "enable_session_service",
    "grpc_bind_address",
    "grpc_engine",
    "h2o_genmodel_jar",
    "instances_per_model",
    "jvm_max_heap_mb",
    "load_on_first_request",
    "log_format",
    "log_level",
    "max_ended_versions",
    "model_platform",
    "model_cache_dir",
    "model_cache_max_bytes",
    "num_workers",
    "probe_native_models",
    "request_log_dc",
    "request_log_max_file_bytes",
    "request_log_max_file_seconds",
    "request_log_max_total_bytes",
    "request_log_task_index",
    "rest_api_ssl",
    "rest_bind_address",
    "rest_engine",
    "rest_max_body_bytes",
    "rest_max_total_body_bytes",
    "rest_min_body_bytes_per_second",
    "rest_receive_timeout_seconds",
    "shutdown_delay_seconds",
    "shutdown_grace_seconds",
    "ssl_certificate_file",
    "ssl_client_ca_file",
    "ssl_config_file_poll_wait_seconds",
    "ssl_key_file",
    "total_model_memory_limit_bytes",
    "tracing_endpoint",
    "tracing_sample_ratio",
    "trusted_skops_types",
    "version_marker_file",
    "version_settle_seconds",
    "worker_hang_seconds",
}


def default_of(kind, text):
    if kind == "string":
        return text
    if kind == "bool":
        return text == "true"
    if "CPUs" in text:
        return 4 * CPUS if text == "4xCPUs" else CPUS
    return float(text) if kind == "float" else int(text)


def test_the_table_holds_the_flags_of_tensorflow_serving_and_those_of_its_own():
    assert len(ROWS) == 48
    assert set(FLAGS) == {name for name, _, _ in ROWS} | OWN


@pytest.mark.parametrize(("name", "kind", "default"), ROWS)
def test_a_flag_of_tensorflow_serving_has_its_type_and_default(name, kind, default):
    expected = default_of(kind, default)

    assert FLAGS[name].type is FlagType(kind)
    value = parse_command_line([])[name]
    assert value == expected
    assert type(value) is type(expected)


VALUES = {
    FlagType.STRING: ("a=b", "a=b"),
    FlagType.INT32: ("-2147483648", -(2**31)),
    FlagType.INT64: ("9223372036854775807", 2**63 - 1),
    FlagType.FLOAT: ("0.25", 0.25),
    FlagType.BOOL: ("true", True),
}


@pytest.mark.parametrize("name", sorted(FLAGS))
def test_every_flag_is_read_in_both_forms(name):
    text, value = VALUES[FLAGS[name].type]

    for arguments in ([f"--{name}={text}"], [f"--{name}", text]):
        flags = parse_command_line(arguments)
        assert flags[name] == value
        assert flags.given == {name}
        assert flags.unknown == ()


def test_the_last_occurrence_wins():
    assert parse_command_line(["--port=1", "--model_name=m", "--port=2"])["port"] == 2


def test_an_empty_string_is_a_value():
    assert parse_command_line(["--model_name="])["model_name"] == ""


def test_a_negative_number_may_follow_its_flag():
    flags = parse_command_line(["--file_system_poll_wait_seconds", "-1"])

    assert flags["file_system_poll_wait_seconds"] == -1


@pytest.mark.parametrize(
    ("arguments", "value", "unknown"),
    [
        (["--enable_batching"], True, ()),
        (["--enable_batching=false"], False, ()),
        (["--enable_batching", "false"], False, ()),
        (["--enable_batching", "true"], True, ()),
        (["--enable_batching", "yes"], True, ("yes",)),
        (["--enable_batching", "False"], True, ("False",)),
        (["--enable_batching", "--port=1"], True, ()),
        (["--noenable_batching"], False, ("--noenable_batching",)),
    ],
)
def test_a_bare_boolean_takes_the_next_word_only_if_it_is_true_or_false(arguments, value, unknown):
    flags = parse_command_line(arguments)

    assert flags["enable_batching"] is value
    assert flags.unknown == unknown


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--port=", "Couldn't interpret value  for flag port: not an int32."),
        ("--port=abc", "Couldn't interpret value abc for flag port: not an int32."),
        ("--port=1.5", "Couldn't interpret value 1.5 for flag port: not an int32."),
        ("--port=1_0", "Couldn't interpret value 1_0 for flag port: not an int32."),
        ("--port= 1", "Couldn't interpret value  1 for flag port: not an int32."),
        (
            "--port=2147483648",
            "Couldn't interpret value 2147483648 for flag port: not an int32.",
        ),
        (
            "--load_retry_interval_micros=9223372036854775808",
            "Couldn't interpret value 9223372036854775808 for flag load_retry_interval_micros: "
            "not an int64.",
        ),
        (
            "--per_process_gpu_memory_fraction=half",
            "Couldn't interpret value half for flag per_process_gpu_memory_fraction: "
            "not a finite number.",
        ),
        (
            "--per_process_gpu_memory_fraction=nan",
            "Couldn't interpret value nan for flag per_process_gpu_memory_fraction: "
            "not a finite number.",
        ),
        (
            "--enable_batching=1",
            "Couldn't interpret value 1 for flag enable_batching: not true or false.",
        ),
        (
            "--enable_batching=True",
            "Couldn't interpret value True for flag enable_batching: not true or false.",
        ),
    ],
)
def test_a_value_that_cannot_be_read_is_refused_with_flag_and_value(argument, message):
    with pytest.raises(InvalidArgument) as caught:
        parse_command_line([argument])

    assert caught.value.message == message


@pytest.mark.parametrize("arguments", [["--port"], ["--model_name", "--port=1"]])
def test_a_flag_without_its_value_is_refused(arguments):
    with pytest.raises(InvalidArgument) as caught:
        parse_command_line(arguments)

    assert caught.value.message == f"Missing value for flag {arguments[0].removeprefix('--')}."


def test_what_is_no_flag_is_unknown_and_the_rest_still_counts():
    flags = parse_command_line(["serve", "--modle_name=m", "-port=1", "--port=2", "--", "--port=3"])

    assert flags.unknown == ("serve", "--modle_name=m", "-port=1", "--port=3")
    assert flags["port"] == 2


def test_help_is_recognised_anywhere():
    assert parse_command_line(["--port=1", "--help"]).help_wanted
    assert not parse_command_line(["--port=1"]).help_wanted


def test_help_shows_each_flag_once_with_its_default_and_what_it_lacks():
    lines = help_text().splitlines()

    for flag in FLAGS.values():
        assert sum(line.strip().startswith(f"--{flag.name}=") for line in lines) == 1
        assert flag.help
    assert '  --model_name="default"  (string)' in lines
    assert "  --enable_profiler=true  (bool)" in lines
    assert help_text().count("[accepted, without") == sum(
        flag.support is Support.NO_EFFECT for flag in FLAGS.values()
    )
    assert max(map(len, lines)) <= 100


def test_flags_without_a_meaning_are_named_in_one_warning_even_with_their_default_value():
    flags = parse_command_line(["--flush_filesystem_caches", "--skip_initialize_tpu=true"])

    assert warnings(flags) == [
        "without a meaning in this server, and ignored: "
        "--flush_filesystem_caches, --skip_initialize_tpu"
    ]


def test_flags_not_supported_yet_are_named_in_one_warning_when_they_ask_for_something(monkeypatch):
    """Flags of a table of its own: those of the server come to be supported."""
    later = [
        Flag(name, FlagType.BOOL, default=name == "b", help="", support=Support.LATER)
        for name in "abc"
    ]
    monkeypatch.setattr(command_line, "FLAGS", {flag.name: flag for flag in later})
    flags = parse_command_line(["--a", "--b=true", "--c"])

    assert warnings(flags) == ["not supported by this version yet, and ignored: --a, --c"]


def test_flags_that_do_what_they_say_need_no_warning():
    assert warnings(parse_command_line(["--port=1", "--model_base_path=/m"])) == []
