"""What the flags of traces and logs become."""

import pytest

from serving.config.command_line import parse_command_line
from serving.config.observability import observability_options
from serving.core.errors import InvalidArgument
from serving.observability.observability_options import ObservabilityOptions, TracingOptions


def options(*arguments):
    return observability_options(parse_command_line(arguments))


def test_traces_and_logs_are_off_unless_asked_for():
    assert options() == ObservabilityOptions("text", "", None)


def test_traces_and_logs_are_as_the_flags_say():
    asked = options(
        "--log_format=json",
        "--access_log=stdout",
        "--tracing_endpoint=https://collector:4317",
        "--tracing_sample_ratio=0.25",
    )

    tracing = TracingOptions("https://collector:4317", 0.25)
    assert asked == ObservabilityOptions("json", "stdout", tracing)


def test_a_ratio_that_is_not_given_is_left_to_the_environment():
    tracing = options("--tracing_endpoint=http://collector:4317").tracing

    assert tracing.sample_ratio is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--tracing_endpoint=collector:4317"],
            "tracing_endpoint must be a URL that begins with http:// or https://, not "
            "'collector:4317'",
        ),
        (
            ["--tracing_endpoint=http://collector:4317", "--tracing_sample_ratio=1.5"],
            "tracing_sample_ratio must be from 0 to 1, not 1.5",
        ),
    ],
)
def test_tracing_flags_that_can_not_be_are_refused(flags, message):
    with pytest.raises(InvalidArgument) as told:
        options(*flags)

    assert told.value.message == message
