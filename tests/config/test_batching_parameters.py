"""BatchingParameters files: what they set, what holds without them, what is refused when."""

from __future__ import annotations

from pathlib import Path

import pytest

from serving.batching.batching_options import (
    Admission,
    BatchingOptions,
    QueueOptions,
    SchedulerOptions,
)
from serving.config.batching_parameters import Batching, read_batching
from serving.config.command_line import parse_command_line
from serving.config.flags import CPUS
from serving.config.options import server_options
from serving.core.errors import InvalidArgument, NotFound

EVERYTHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 5000 }
max_enqueued_batches { value: 7 }
num_batch_threads { value: 3 }
thread_pool_name { value: "pool" }
allowed_batch_sizes: 32
allowed_batch_sizes: 128
pad_variable_length_inputs: true
enable_large_batch_splitting { value: true }
max_execution_batch_size { value: 64 }
retry_failed_batch_in_halves: true
"""


def written(folder: Path, text: str) -> str:
    file = folder / "batching_params.pbtxt"
    file.write_text(text)
    return str(file)


def batching(*flags: str) -> Batching | None:
    return server_options(parse_command_line(["--model_base_path=/m", *flags])).batching


def test_every_field_of_the_file_counts(tmp_path: Path):
    file = written(tmp_path, EVERYTHING)
    made = batching("--enable_batching", f"--batching_parameters_file={file}")
    assert made is not None
    assert made.scheduler == SchedulerOptions(3, "pool")
    assert made.options_for("/m/1") == BatchingOptions(
        QueueOptions(128, 5000, 7, True, 64), (32, 128), True, True
    )


OWN = """
batching_mode: ADAPTIVE
deadline_aware: true
admission_control: true
max_expected_wait_micros { value: 250000 }
honor_priorities: true
max_priority_wait_micros { value: 2000000 }
weight { value: 3 }
max_batches_in_progress { value: 2 }
hung_batch_seconds { value: 5 }
"""


def test_every_field_that_tensorflow_serving_does_not_have_counts(tmp_path: Path):
    made = read_batching(written(tmp_path, OWN), per_version=False)
    assert made.scheduler == SchedulerOptions(CPUS, hung_batch_seconds=5)
    assert made.options_for("/m/1") == BatchingOptions(
        QueueOptions(deadline_aware=True),
        adaptive=True,
        admission=Admission(250_000),
        honor_priorities=True,
        max_priority_wait_micros=2_000_000,
        weight=3,
        max_batches_in_progress=2,
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("weight {}", "weight must be positive; was 0"),
        (
            "max_batches_in_progress { value: -1 }",
            "max_batches_in_progress must be non-negative; was -1",
        ),
        (
            "max_priority_wait_micros { value: -1 }",
            "max_priority_wait_micros must be non-negative; was -1",
        ),
        (
            "admission_control: true max_expected_wait_micros { value: -1 }",
            "max_expected_wait_micros must be non-negative; was -1",
        ),
        (
            "max_expected_wait_micros { value: 1 }",
            "max_expected_wait_micros is set without setting admission_control",
        ),
    ],
)
def test_what_contradicts_itself_is_named(tmp_path: Path, text: str, message: str):
    made = read_batching(written(tmp_path, text), per_version=False)
    with pytest.raises(InvalidArgument) as raised:
        made.options_for("/m/1")
    assert raised.value.message == message


def test_negative_patience_with_batches_is_refused(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="hung_batch_seconds must be non-negative; was -1"):
        read_batching(written(tmp_path, "hung_batch_seconds { value: -1 }"), per_version=False)


def test_defaults_without_a_file_and_with_an_empty_one(tmp_path: Path):
    without = batching("--enable_batching")
    assert without is not None
    assert without.scheduler == SchedulerOptions(CPUS, "model_server_batch_threads")
    assert without.options_for("/m/1") == BatchingOptions()
    empty = read_batching(written(tmp_path, ""), per_version=False)
    assert empty.scheduler == SchedulerOptions(CPUS, "batch_threads")
    assert empty.options_for("/m/1") == BatchingOptions()


def test_a_value_of_zero_is_a_value(tmp_path: Path):
    made = read_batching(written(tmp_path, "max_batch_size {}"), per_version=False)
    with pytest.raises(InvalidArgument) as raised:
        made.options_for("/m/1")
    assert raised.value.message == "input_batch_size_limit must be positive; was 0"


HUGE = 2**63 - 1

WRONG_QUEUES = {
    "max_batch_size { value: -5 }": "input_batch_size_limit must be positive; was -5",
    "max_batch_size { value: 0 }": "input_batch_size_limit must be positive; was 0",
    "batch_timeout_micros { value: -1 }": "batch_timeout_micros must be non-negative; was -1",
    "max_enqueued_batches { value: -1 }": "max_enqueued_batches must be positive; was -1",
    "enable_large_batch_splitting { value: true } max_enqueued_batches {}": (
        "max_enqueued_batches must be positive; was 0"
    ),
    "enable_large_batch_splitting { value: true } max_execution_batch_size {}": (
        "max_execution_batch_size must be positive; was 0"
    ),
    "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 1001 }": (
        "When enable_large_batch_splitting is true, input_batch_size_limit must be greater than or "
        "equal to max_execution_batch_size. They are 1000 and 1001"
    ),
    "allowed_batch_sizes: 8": (
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 8; "
        "expected 1000"
    ),
    "max_batch_size { value: 8 } allowed_batch_sizes: 8 allowed_batch_sizes: -8": (
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was -8; expected 8"
    ),
}


@pytest.mark.parametrize(("text", "message"), WRONG_QUEUES.items())
def test_wrong_queues_fail_the_load_in_tensorflow_servings_words(
    tmp_path: Path, text: str, message: str
):
    made = read_batching(written(tmp_path, text), per_version=False)
    with pytest.raises(InvalidArgument) as raised:
        made.options_for("/m/1")
    assert raised.value.message == message


@pytest.mark.parametrize("value", ["-1", "0"])
def test_wrong_threads_stop_the_start(tmp_path: Path, value: str):
    text = f"num_batch_threads {{ value: {value} }}"
    with pytest.raises(InvalidArgument) as raised:
        read_batching(written(tmp_path, text), per_version=False)
    assert raised.value.message == f"num_batch_threads must be positive; was {value}"


def test_numbers_may_be_as_large_as_the_message_lets_them(tmp_path: Path):
    fields = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches")
    text = " ".join(f"{field} {{ value: {HUGE} }}" for field in fields)
    options = read_batching(written(tmp_path, text), per_version=False).options_for("/m/1")
    assert options == BatchingOptions(QueueOptions(HUGE, HUGE, HUGE))


def test_allowed_sizes_need_not_increase_and_only_the_last_is_looked_at(tmp_path: Path):
    sizes = " ".join(f"allowed_batch_sizes: {size}" for size in (4, -1, 0, 2, 4, 8))
    made = read_batching(
        written(tmp_path, f"max_batch_size {{ value: 8 }} {sizes}"), per_version=False
    )
    options = made.options_for("/m/1")
    assert options is not None
    assert options.allowed_batch_sizes == (4, -1, 0, 2, 4, 8)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("max_batch_size: 8", 1),
        ("max_batch_size { value: 9223372036854775808 }", 1),
        ("max_batch_size { value: 1.5 }", 1),
        ("max_batch_size { value: 8", 1),
        ("max_batch_size { value: 8 }\nno_such_field: 1", 2),
        ("\n\npad_variable_length_inputs { value: true }", 3),
        ("batching_mode: QUICK", 1),
    ],
)
def test_what_is_no_batching_parameters_is_refused_with_its_place(
    tmp_path: Path, text: str, line: int
):
    file = written(tmp_path, text)
    with pytest.raises(InvalidArgument) as raised:
        read_batching(file, per_version=False)
    assert raised.value.message.startswith(
        f"Invalid protobuf file: '{file}': Error parsing text-format "
        f"tensorflow.serving.BatchingParameters at line {line}, column "
    )


@pytest.mark.parametrize(
    "flags", [(), ("--enable_per_model_batching_parameters",), ("--enable_batching=false",)]
)
def test_without_enable_batching_there_is_none(flags: tuple[str, ...]):
    assert batching(*flags) is None


def test_wrong_threads_stop_the_start_and_wrong_queues_fail_the_load(tmp_path: Path):
    with pytest.raises(InvalidArgument) as raised:
        read_batching(written(tmp_path, "num_batch_threads { value: 0 }"), per_version=False)
    assert raised.value.message == "num_batch_threads must be positive; was 0"

    text = "max_batch_size { value: 8 } allowed_batch_sizes: 4"
    made = read_batching(written(tmp_path, text), per_version=False)
    with pytest.raises(InvalidArgument) as raised:
        made.options_for("/m/1")
    assert raised.value.message == (
        "Last entry in allowed_batch_sizes must match max_batch_size; last entry was 4; expected 8"
    )


def test_a_file_that_is_missing_or_no_proto_is_refused(tmp_path: Path):
    with pytest.raises(NotFound):
        read_batching(str(tmp_path / "missing"), per_version=False)
    with pytest.raises(InvalidArgument):
        read_batching(written(tmp_path, "max_batch_size: 8"), per_version=False)


def test_a_versions_own_file_replaces_everything_but_the_threads(tmp_path: Path):
    ours, theirs = tmp_path / "global", tmp_path / "1"
    for folder in (ours, theirs):
        folder.mkdir()
    made = read_batching(written(ours, EVERYTHING), per_version=True)
    written(theirs, "max_batch_size { value: 9 } num_batch_threads { value: 0 }")
    assert made.scheduler == SchedulerOptions(3, "pool")
    assert made.options_for(str(theirs)) == BatchingOptions(QueueOptions(max_batch_size=9))


def test_a_version_without_a_file_of_its_own_is_not_batched(tmp_path: Path):
    assert read_batching("", per_version=True).options_for(str(tmp_path)) is None


def test_a_versions_unreadable_file_fails_its_load(tmp_path: Path):
    written(tmp_path, "no such field")
    with pytest.raises(InvalidArgument):
        read_batching("", per_version=True).options_for(str(tmp_path))
