"""Which engine carries the calls."""

import grpc
import pytest
from grpc._cython import cygrpc

from serving.core.errors import InvalidArgument
from serving.transport.completion_queue_engine import CompletionQueueEngine
from serving.transport.grpc_engine import GrpcMethods
from serving.transport.grpc_engines import new_engine, why_untested
from serving.transport.grpc_options import COMPLETION_QUEUE, THREADED, GrpcOptions
from serving.transport.threaded_engine import ThreadedEngine


def engine(name=COMPLETION_QUEUE):
    return new_engine(GrpcOptions(engine=name), GrpcMethods({}))


def test_the_installed_grpcio_is_one_that_was_tested():
    assert why_untested() == ""


@pytest.mark.parametrize(
    ("name", "kind"),
    [(COMPLETION_QUEUE, CompletionQueueEngine), (THREADED, ThreadedEngine)],
)
def test_the_engine_is_the_one_named_and_the_log_says_so(name, kind, caplog):
    caplog.set_level("INFO")

    assert isinstance(engine(name), kind)
    assert f"gRPC engine: {name}" in caplog.text


def test_the_default_is_the_completion_queue():
    assert GrpcOptions().engine == COMPLETION_QUEUE


def test_an_unknown_engine_is_refused():
    with pytest.raises(InvalidArgument) as caught:
        GrpcOptions(engine="nghttp")

    assert caught.value.message == (
        "grpc_engine must be one of completion_queue, threaded, not 'nghttp'"
    )


@pytest.mark.parametrize("version", ["1.73.1", "1.86.0", "2.0.0"])
def test_a_grpcio_that_was_not_tested_runs_the_threaded_engine(version, monkeypatch, caplog):
    monkeypatch.setattr(grpc, "__version__", version)

    assert isinstance(engine(), ThreadedEngine)
    assert f"grpcio {version} was not tested with it" in caplog.text


def test_a_grpcio_without_a_name_that_is_needed_runs_the_threaded_engine(monkeypatch, caplog):
    monkeypatch.delattr(cygrpc, "ReceiveCloseOnServerOperation")

    assert isinstance(engine(), ThreadedEngine)
    assert "lacks ReceiveCloseOnServerOperation" in caplog.text


def test_a_version_of_another_form_runs_the_threaded_engine(monkeypatch):
    monkeypatch.setattr(grpc, "__version__", "1.85rc1.dev0")

    assert isinstance(engine(), ThreadedEngine)
