"""Which options the flags become, and which combinations are refused in which words."""

import dataclasses
import logging
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tensorflow.core.protobuf.config_pb2 import ConfigProto

from serving.config.command_line import parse_command_line
from serving.config.options import server_options
from serving.core.errors import InvalidArgument, NotFound
from serving.loaders.device import Device
from serving.loaders.instances import InstanceOptions
from serving.loaders.keras_options import KerasOptions
from serving.loaders.tensorflow_options import TensorFlowOptions
from serving.loaders.tflite_options import TfLiteOptions
from serving.request_logging.request_log_options import RequestLogOptions
from serving.server_core_options import LifecycleOptions
from serving.sources.model_cache import ModelCacheOptions
from serving.transport.http_options import HttpOptions


def options(*arguments):
    return server_options(parse_command_line(["--model_base_path=/models/m", *arguments]))


def refusal(*arguments):
    with pytest.raises(InvalidArgument) as caught:
        server_options(parse_command_line(arguments))
    return caught.value.message


def test_a_base_path_alone_serves_grpc_on_8500_and_nothing_else():
    found = options()

    assert found.grpc.address == "0.0.0.0:8500"
    assert found.grpc.socket_path == ""
    assert found.tls is None
    assert not found.grpc.health_service
    assert found.http is None
    assert (found.model_name, found.model_base_path) == ("default", "/models/m")
    assert found.rest_timeout_seconds == 30
    assert found.shutdown_delay_seconds == 0
    assert found.shutdown_grace_seconds == 10
    assert found.tensorflow.tags == ("serve",)


def test_options_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        options().model_name = "other"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            [],
            "Both server_options.model_base_path and server_options.model_config_file are empty!",
        ),
        (
            ["--model_base_path=/m", "--port=0"],
            "At least one of server_options.grpc_port or server_options.grpc_socket_path "
            "must be set.",
        ),
        (
            ["--model_base_path=/m", "--batching_parameters_file=/b"],
            "server_options.batching_parameters_file is set without setting "
            "server_options.enable_batching to true.",
        ),
        (
            [
                "--model_base_path=/m",
                "--tensorflow_session_parallelism=1",
                "--tensorflow_intra_op_parallelism=1",
                "--tensorflow_inter_op_parallelism=1",
            ],
            "Either configure server_options.tensorflow_session_parallelism or "
            "(server_options.tensorflow_intra_op_parallelism, "
            "server_options.tensorflow_inter_op_parallelism) separately. "
            "You cannot configure all.",
        ),
        (
            ["--model_base_path=/m", "--use_alts_credentials", "--ssl_config_file=/s"],
            "server_options.use_alts_credentials and server_options.ssl_config_file "
            "cannot both be set.",
        ),
        (
            ["--model_base_path=/m", "--use_alts_credentials"],
            "server_options.use_alts_credentials is not supported; "
            "server_options.ssl_config_file encrypts as well.",
        ),
        (
            ["--model_base_path=models/m", "--model_name=n"],
            "Expected model n to have an absolute path or URI; got base_path()=models/m",
        ),
        (
            ["--model_base_path=/m", "--port=65536"],
            "port must be a port from 0 to 65535, not 65536",
        ),
        (
            ["--model_base_path=/m", "--rest_api_port=-1"],
            "rest_api_port must be a port from 0 to 65535, not -1",
        ),
        (
            ["--model_base_path=/m", "--grpc_bind_address=localhost"],
            "grpc_bind_address must be host:port, not 'localhost'",
        ),
        (
            ["--model_base_path=/m", "--rest_bind_address=:80"],
            "rest_bind_address must be host:port, not ':80'",
        ),
        (
            ["--model_base_path=/m", "--grpc_max_threads=0"],
            "grpc_max_threads must be at least 1, not 0",
        ),
        (
            ["--model_base_path=/m", "--rest_api_num_threads=0"],
            "rest_api_num_threads must be at least 1, not 0",
        ),
        (
            ["--model_base_path=/m", "--shutdown_delay_seconds=-1"],
            "shutdown_delay_seconds must be at least 0, not -1.0",
        ),
        (
            ["--model_base_path=/m", "--shutdown_grace_seconds=-1"],
            "shutdown_grace_seconds must be at least 0, not -1.0",
        ),
        (
            ["--model_base_path=/m", "--num_load_threads=-1"],
            "num_load_threads must not be negative, but is -1",
        ),
        (
            ["--model_base_path=/m", "--max_num_load_retries=-1"],
            "max_num_load_retries must not be negative, but is -1",
        ),
        (
            ["--model_base_path=/m", "--grpc_channel_arguments=a=1,b"],
            "grpc_channel_arguments: expected key=value, got 'b'",
        ),
    ],
)
def test_flags_that_do_not_fit_together_are_refused(arguments, message):
    assert refusal(*arguments) == message


@pytest.mark.parametrize("path", ["/m", "gs://bucket/m", "s3://bucket"])
def test_an_absolute_path_or_a_uri_is_a_base_path(path):
    assert server_options(parse_command_line([f"--model_base_path={path}"])).model_base_path == path


def test_a_model_config_file_needs_no_base_path():
    found = server_options(parse_command_line(["--model_config_file=/c", "--model_name=n"]))

    assert found.model_config_file == "/c"


def test_without_a_port_a_unix_socket_is_enough():
    found = options("--port=0", "--grpc_socket_path=relative.sock")

    assert (found.grpc.address, found.grpc.socket_path) == ("", "relative.sock")


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:9000", "localhost:1"])
def test_a_bind_address_replaces_the_port(address):
    assert options("--port=0", f"--grpc_bind_address={address}").grpc.address == address


def test_the_rest_port_is_opened_on_every_address():
    assert options("--rest_api_port=8501").http == HttpOptions(host="", port=8501)


def test_a_rest_bind_address_needs_no_rest_port():
    assert options("--rest_bind_address=[::1]:0").http == HttpOptions(host="::1", port=0)


def test_a_rest_port_equal_to_the_grpc_port_is_reported_and_skipped(caplog):
    with caplog.at_level(logging.ERROR):
        assert options("--port=9000", "--rest_api_port=9000").http is None

    assert "Skipped exporting HTTP/REST API." in caplog.text


@pytest.mark.parametrize(("milliseconds", "seconds"), [(1500, 1.5), (0, None), (-1, None)])
def test_the_rest_timeout_is_in_seconds_and_may_be_none(milliseconds, seconds):
    found = options(f"--rest_api_timeout_in_ms={milliseconds}")

    assert found.rest_timeout_seconds == seconds


def test_channel_arguments_are_numbers_where_they_are_int32():
    found = options("--grpc_channel_arguments=a=1,b=-2,c=x=y,d=2147483648,e=")

    assert found.grpc.channel_arguments == (
        ("a", 1),
        ("b", -2),
        ("c", "x=y"),
        ("d", "2147483648"),
        ("e", ""),
    )


def test_lifecycle_flags_reach_the_core():
    found = options(
        "--file_system_poll_wait_seconds=-1",
        "--model_config_file_poll_wait_seconds=7",
        "--num_load_threads=2",
        "--num_unload_threads=3",
        "--max_num_load_retries=0",
        "--load_retry_interval_micros=-2500000",
        "--allow_version_labels_for_unavailable_models",
        "--aspired_version_policy=resource_preserving",
        "--load_on_first_request",
        "--total_model_memory_limit_bytes=1000",
        "--version_settle_seconds=2.5",
        "--version_marker_file=_DONE",
        "--max_ended_versions=7",
        "--model_cache_dir=/cache",
        "--model_cache_max_bytes=1000",
    ).lifecycle

    assert dataclasses.replace(found, num_initial_load_threads=4) == LifecycleOptions(
        file_system_poll_wait_seconds=-1,
        model_config_file_poll_wait_seconds=7,
        num_load_threads=2,
        num_unload_threads=3,
        max_num_load_retries=0,
        load_retry_interval_seconds=-2.5,
        allow_version_labels_for_unavailable_models=True,
        aspired_version_policy="resource_preserving",
        load_on_first_request=True,
        total_model_memory_limit_bytes=1000,
        version_settle_seconds=2.5,
        version_marker_file="_DONE",
        max_ended_versions=7,
        model_cache=ModelCacheOptions("/cache", 1000),
    )


def test_tensorflow_flags_reach_its_loader():
    found = options(
        "--saved_model_tags=serve,gpu",
        "--tensorflow_session_parallelism=1",
        "--tensorflow_intra_op_parallelism=2",
        "--per_process_gpu_memory_fraction=0.5",
        "--mixed_precision=bfloat16",
        "--xla_cpu_compilation_enabled",
        "--xla_gpu_compilation_enabled",
        "--custom_op_libraries=/a.so,,/ops",
    ).tensorflow

    assert found.tags == ("serve", "gpu")
    assert (found.session_parallelism, found.intra_op_parallelism) == (1, 2)
    assert found.per_process_gpu_memory_fraction == 0.5
    assert found.mixed_precision == "bfloat16"
    assert found.xla_cpu_compilation_enabled
    assert found.xla_gpu_compilation_enabled
    assert found.custom_op_libraries == ("/a.so", "/ops")


def test_keras_models_run_in_the_same_sessions_and_without_their_code_unless_it_is_allowed():
    assert not options().keras.allow_code
    found = options("--allow_keras_code", "--tensorflow_intra_op_parallelism=2").keras
    assert found == KerasOptions(TensorFlowOptions(intra_op_parallelism=2), allow_code=True)


def test_python_classes_are_run_where_that_is_allowed():
    assert not options().python.allow
    assert options("--allow_python_models").python.allow


def test_native_models_are_tried_first_unless_that_is_switched_off():
    assert options().native.probe
    assert not options("--probe_native_models=false").native.probe


def test_the_remaining_flags_reach_their_part():
    found = options(
        "--enable_signature_method_name_check",
        "--enable_serialization_as_tensor_content",
        "--rest_api_enable_cors_support",
        "--rest_api_num_threads=3",
        "--enable_grpc_healthcheck_service",
        "--grpc_max_threads=5",
        "--shutdown_delay_seconds=2",
        "--shutdown_grace_seconds=0.5",
    )

    assert found.enable_signature_method_name_check
    assert found.enable_serialization_as_tensor_content
    assert found.rest_enable_cors
    assert found.rest_num_threads == 3
    assert found.grpc.health_service
    assert found.grpc.max_threads == 5
    assert found.shutdown_delay_seconds == 2
    assert found.shutdown_grace_seconds == 0.5
    assert found.drain_seconds == 2.5


def test_a_session_config_file_becomes_the_serialized_message(tmp_path):
    file = tmp_path / "session.config"
    file.write_text("log_device_placement: true")

    found = options(f"--tensorflow_session_config_file={file}")

    assert found.tensorflow.session_config == b"\x40\x01"  # field 8, a varint: true


def test_a_session_config_file_is_read_without_the_rest_of_tensorflow(tmp_path):
    """A supervisor reads it too, and is to stay small."""
    file = tmp_path / "session.config"
    file.write_text("log_device_placement: true")
    program = (
        "import sys\n"
        "from serving.config.command_line import parse_command_line\n"
        "from serving.config.options import server_options\n"
        "flags = ['--model_base_path=/m', '--tensorflow_session_config_file=' + sys.argv[1]]\n"
        "print(server_options(parse_command_line(flags)).tensorflow.session_config)\n"
        "print('tensorflow' in sys.modules)"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, str(file)], check=True, capture_output=True, text=True
    )
    assert found.stdout == "b'@\\x01'\nFalse\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.json", b'{"log_device_placement": true, "gpuOptions": {"allow_growth": true}}'),
        ("a.yaml", b"log_device_placement: true\ngpu_options: {allowGrowth: true}\n"),
        ("a.pb", b"\x40\x01\x32\x02\x20\x01"),
        ("a.config", b"log_device_placement: true gpu_options { allow_growth: true }"),
    ],
)
def test_every_form_of_a_session_config_file_says_the_same(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)

    found = options(f"--tensorflow_session_config_file={tmp_path / name}")

    config = ConfigProto.FromString(found.tensorflow.session_config)
    assert config == ConfigProto(log_device_placement=True, gpu_options={"allow_growth": True})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", b'{"gpu_fraction": 1}', "is no ConfigProto: "),
        ("a.json", b'{"gpu_options": ', "Invalid JSON file: "),
        ("a.yaml", b"- 1", "is no ConfigProto: "),
        ("a.pb", b"\xff", "no binary ConfigProto"),
        ("a.config", b"gpu_fraction: 1", "Error parsing text-format tensorflow.ConfigProto"),
    ],
)
def test_a_bad_session_config_file_is_refused_by_name(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)

    text = refusal("--model_base_path=/m", f"--tensorflow_session_config_file={tmp_path / name}")

    assert message in text
    assert str(tmp_path / name) in text


def test_a_missing_binary_session_config_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        options(f"--tensorflow_session_config_file={tmp_path}/a.pb")


def test_an_ssl_config_file_becomes_tls_options(tmp_path):
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "K" server_cert: "C" custom_ca: "A" client_verify: true')

    tls = options(f"--ssl_config_file={file}").tls

    assert (tls.server_key, tls.server_cert, tls.custom_ca) == ("K", "C", "A")
    assert tls.client_verify
    assert "K" not in repr(tls).replace("TlsOptions", "")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server_key: K", "Invalid protobuf file"),
        ('server_key: "K"', "TLS needs both server_key and server_cert"),
        (
            'server_key: "K" server_cert: "C" client_verify: true',
            "TLS with client_verify needs custom_ca to verify clients with",
        ),
    ],
)
def test_a_bad_ssl_config_file_is_refused(tmp_path, text, message):
    file = tmp_path / "ssl.config"
    file.write_text(text)

    assert refusal("--model_base_path=/m", f"--ssl_config_file={file}").startswith(message)


def test_rest_is_encrypted_only_where_that_is_asked_for(tmp_path):
    """Clients of TensorFlow Serving's REST API, which stays plain, are not shut out."""
    file = tmp_path / "ssl.config"
    file.write_text('server_key: "K" server_cert: "C"')
    tls = f"--ssl_config_file={file}"

    assert not options(tls).rest_ssl
    assert options(tls, "--rest_api_ssl").rest_ssl
    assert refusal("--model_base_path=/m", "--rest_api_ssl") == (
        "rest_api_ssl is set without setting ssl_config_file"
    )


def test_a_missing_ssl_config_file_is_not_found(tmp_path):
    with pytest.raises(NotFound):
        options(f"--ssl_config_file={tmp_path}/none")


def test_one_process_serves_unless_more_are_wanted():
    assert (options().num_workers, options("--num_workers=4").num_workers) == (1, 4)
    assert options().worker_hang_seconds == 0
    assert options("--worker_hang_seconds=2.5").worker_hang_seconds == 2.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--num_workers=0"], "num_workers must be at least 1, not 0"),
        (["--worker_hang_seconds=-1"], "worker_hang_seconds must be at least 0, not -1.0"),
        (
            ["--num_workers=2", "--grpc_socket_path=s"],
            "num_workers must be 1, not 2, where grpc_socket_path is set: several processes can "
            "share a port, but not a unix socket",
        ),
    ],
)
def test_a_number_of_workers_that_can_not_be_is_refused(arguments, message):
    assert refusal("--model_base_path=/models/m", *arguments) == message


def test_a_port_is_shared_only_where_that_is_wanted():
    """A second server on the port would start, and take half of the calls."""
    grpc = options().grpc
    assert ("grpc.so_reuseport", 0) in grpc.all_channel_arguments()
    shared = dataclasses.replace(grpc, shared=True)
    assert ("grpc.so_reuseport", 1) in shared.all_channel_arguments()


@pytest.mark.parametrize(
    ("arguments", "iterations"),
    [
        ([], 1),
        (["--num_request_iterations_for_warmup=3"], 3),
        (["--num_request_iterations_for_warmup=-3"], 1),
        (["--enable_model_warmup=false", "--num_request_iterations_for_warmup=3"], 0),
    ],
)
def test_requests_of_a_warm_up_run_once_unless_more_are_wanted_or_none(arguments, iterations):
    assert options(*arguments).num_warm_up_iterations == iterations


def test_instances_and_their_devices_are_read():
    assert options().instances.options == InstanceOptions()
    found = options("--instances_per_model=3", "--devices=gpu:0,GPU:1,cpu").instances.options
    assert found == InstanceOptions(3, (Device("gpu", 0), Device("gpu", 1), Device("cpu", 0)))


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--instances_per_model=-1", "instances_per_model must be at least 0, not -1"),
        (
            "--devices=gpu:0,tpu:0",
            "devices: 'tpu:0' is not a device; devices are called cpu:0, gpu:0, gpu:1 …",
        ),
    ],
)
def test_wrong_instances_are_refused_at_the_start(flag, message):
    assert refusal("--model_base_path=/m", flag) == message


def test_tflite_flags_reach_its_loader_and_its_batching():
    """500 rows are shared by the interpreters of a pool; pools have threads and queues."""
    found = options(
        "--prefer_tflite_model", "--num_tflite_pools=3", "--num_tflite_interpreters_per_pool=4"
    )
    assert found.tflite == TfLiteOptions(preferred=True, num_interpreters=3)
    assert found.tflite_batching.scheduler.num_batch_threads == 3
    queue = found.tflite_batching.options_for("/any").queue
    assert (queue.max_batch_size, queue.execution_limit) == (500, 125)
    assert queue.enable_large_batch_splitting
    assert queue.max_enqueued_batches == 300
    assert found.tflite_batching.read_again() is found.tflite_batching


@pytest.mark.parametrize(
    "arguments", [[], ["--num_tflite_interpreters_per_pool=2", "--enable_batching"]]
)
def test_tflite_models_are_batched_by_themselves_only_where_that_is_wanted(arguments):
    assert options("--num_tflite_pools=0", *arguments).tflite_batching is None


def test_request_log_flags_reach_its_options():
    assert options(
        "--request_log_max_file_bytes=1",
        "--request_log_max_file_seconds=2",
        "--request_log_max_total_bytes=3",
        "--request_log_dc=ab",
        "--request_log_task_index=4",
    ).request_log == RequestLogOptions(1, 2, 3, "ab", 4)


@pytest.mark.parametrize(
    ("flag", "least"),
    [
        ("request_log_max_file_bytes", 1),
        ("request_log_max_file_seconds", 1),
        ("request_log_max_total_bytes", 0),
    ],
)
def test_limits_of_a_request_log_that_can_not_be_are_refused(flag, least):
    words = f"{flag} must be at least {least}, not -1"
    assert refusal("--model_base_path=/models/m", f"--{flag}=-1") == words


def test_the_session_settings_on_the_page_say_what_it_says_they_do(tmp_path):
    page = Path(__file__, "../../../docs/session_options.md").resolve().read_text()
    blocks = re.findall(r"```(json|yaml|)\n(.*?)```", page, re.DOTALL)
    for number, (kind, text) in enumerate(blocks[:3]):
        file = tmp_path / f"{number}.{kind or 'config'}"
        file.write_text(text)
        found = options(f"--tensorflow_session_config_file={file}").tensorflow.session_config
        assert ConfigProto.FromString(found) == ConfigProto(
            log_device_placement=True, gpu_options={"allow_growth": True}
        )


def test_all_bodies_together_have_room_for_four_of_the_largest_or_what_is_said():
    assert options("--rest_max_body_bytes=10").rest_max_total_body_bytes == 40
    found = options("--rest_max_body_bytes=10", "--rest_max_total_body_bytes=10")
    assert found.rest_max_total_body_bytes == 10
    assert refusal(
        "--model_base_path=/m", "--rest_max_body_bytes=10", "--rest_max_total_body_bytes=9"
    ) == ("rest_max_total_body_bytes must be at least rest_max_body_bytes, 10, not 9")


def test_how_long_clients_may_take_to_send_is_said_to_the_rest_port():
    flags = ("--rest_receive_timeout_seconds=2.5", "--rest_min_body_bytes_per_second=7")
    http = options("--rest_api_port=8501", *flags).http
    assert http == HttpOptions(port=8501, receive_timeout_seconds=2.5, min_body_bytes_per_second=7)
    assert refusal("--model_base_path=/m", "--rest_min_body_bytes_per_second=-1") == (
        "rest_min_body_bytes_per_second must be at least 0, not -1"
    )
    assert refusal("--model_base_path=/m", "--rest_receive_timeout_seconds=-1") == (
        "rest_receive_timeout_seconds must be at least 0, not -1.0"
    )
