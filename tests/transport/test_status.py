"""The one table of error codes, as gRPC and HTTP say them."""

import grpc
import pytest

from serving.core.errors import Code, NotFound, ResourceExhausted, error_for
from serving.transport.status import grpc_status, trailing_metadata


@pytest.mark.parametrize(
    ("code", "http"),
    [
        (Code.OK, 200),
        (Code.CANCELLED, 499),
        (Code.UNKNOWN, 500),
        (Code.INVALID_ARGUMENT, 400),
        (Code.DEADLINE_EXCEEDED, 504),
        (Code.NOT_FOUND, 404),
        (Code.ALREADY_EXISTS, 409),
        (Code.PERMISSION_DENIED, 403),
        (Code.RESOURCE_EXHAUSTED, 429),
        (Code.FAILED_PRECONDITION, 400),
        (Code.ABORTED, 409),
        (Code.OUT_OF_RANGE, 400),
        (Code.UNIMPLEMENTED, 501),
        (Code.INTERNAL, 500),
        (Code.UNAVAILABLE, 503),
        (Code.DATA_LOSS, 500),
        (Code.UNAUTHENTICATED, 401),
    ],
)
def test_each_code_has_its_http_status(code, http):
    assert code.http_status == http


@pytest.mark.parametrize("code", [code for code in Code if code is not Code.OK])
def test_codes_map_one_to_one(code):
    status, message = grpc_status(error_for(code, "why"))

    assert status.value[0] == code
    assert status.name == code.name
    assert message == "why"


def test_a_message_of_1024_bytes_travels_whole():
    assert grpc_status(NotFound("x" * 1024)) == (grpc.StatusCode.NOT_FOUND, "x" * 1024)


def test_a_longer_message_is_cut_at_1024_bytes_and_says_so():
    _, message = grpc_status(NotFound("x" * 1025))

    assert message == "x" * 1024 + "...TRUNCATED"
    assert len(message) == 1036


def test_the_cut_does_not_split_a_character():
    _, message = grpc_status(NotFound("x" * 1023 + "é" * 10))

    assert message == "x" * 1023 + "...TRUNCATED"


@pytest.mark.parametrize(
    ("seconds", "milliseconds"), [(0.25, "250"), (0.0, "1"), (0.0001, "1"), (3.0, "3000")]
)
def test_an_error_that_knows_when_to_try_again_says_so_in_the_trailers(seconds, milliseconds):
    error = ResourceExhausted("full", retry_after_seconds=seconds)
    assert trailing_metadata(error) == (("grpc-retry-pushback-ms", milliseconds),)


def test_other_errors_have_no_trailers():
    assert trailing_metadata(ResourceExhausted("full")) == ()
    assert trailing_metadata(NotFound("gone")) == ()
