"""The Java virtual machine that platforms share: how it starts, what its exceptions become."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import pytest

from serving.core.errors import (
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ResourceExhausted,
    ServingError,
)

pytest.importorskip("jpype", reason="jpype1 is not installed")
pytest.importorskip("java_needed", reason="Java is not installed")

import jpype

from serving.loaders import jvm
from serving.loaders.jvm import check_can_start, java, java_classes, java_error
from serving.loaders.jvm_options import JvmOptions

OPTIONS = JvmOptions()


def test_there_is_one_machine_and_one_set_of_classes_for_the_same_jars():
    assert java_classes((), OPTIONS) is java_classes((), JvmOptions(max_heap_mb=64))
    assert jpype.isJVMStarted()


def test_a_machine_that_does_not_start_is_an_error_and_not_the_end_of_the_process():
    """Java ends the process that asks for more memory than there is."""
    with pytest.raises(FailedPrecondition, match="does not start: Could not reserve"):
        check_can_start(["-Xmx9000000g"])
    with pytest.raises(FailedPrecondition, match="does not start"):
        check_can_start(["-XX:+NoSuchOption"])


def test_what_lies_in_the_working_directory_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "jpype.py").write_text("raise SystemExit('somebody else has written this')\n")
    monkeypatch.chdir(tmp_path)
    check_can_start(["-Xmx64m"])


def test_a_process_without_java_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    def missing() -> str:
        raise jpype.JVMNotFoundException("no libjvm.so")

    monkeypatch.setattr(jpype, "isJVMStarted", lambda: False)
    monkeypatch.setattr(jpype, "getDefaultJVMPath", missing)
    with pytest.raises(FailedPrecondition, match="install Java 11 or newer"):
        java_classes((), OPTIONS)


def test_a_machine_that_can_not_be_tried_is_not_started(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jpype, "isJVMStarted", lambda: False)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(FailedPrecondition, match="does not start"):
        java_classes((), OPTIONS)


def test_a_class_that_no_jar_has_is_a_key_error():
    with pytest.raises(KeyError):
        java_classes((), OPTIONS)["no.such.Class"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("java.lang.OutOfMemoryError", ResourceExhausted),
        ("java.lang.StackOverflowError", Internal),
        ("java.lang.NullPointerException", Internal),
        ("java.lang.IllegalArgumentException", InvalidArgument),
        ("java.io.IOException", InvalidArgument),
    ],
)
def test_exceptions_of_java_become_the_error_that_fits(name: str, expected: type[ServingError]):
    java_classes((), OPTIONS)
    thrown = java(name)("what went wrong")
    error = java_error(thrown, "it failed", Internal)
    assert type(error) is expected
    assert ("what went wrong" in error.message) == (expected is InvalidArgument)


def test_what_a_function_put_together_throws_is_looked_into():
    java_classes((), OPTIONS)
    thrown = java("java.lang.reflect.UndeclaredThrowableException")(
        java("java.io.IOException")("x")
    )
    assert java_error(thrown, "it failed").message == "it failed: x"


def test_memory_that_runs_short_is_told_and_the_machine_goes_on():
    java_classes((), OPTIONS)
    with pytest.raises(jpype.JException) as raised:
        [jpype.JArray(jpype.JLong)(2**30) for _ in range(8)]
    error = java_error(raised.value, "it failed")
    assert isinstance(error, ResourceExhausted)
    assert "--jvm_max_heap_mb" in error.message


def test_any_thread_may_call_java():
    java_classes((), OPTIONS)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(java("java.lang.Math").abs(jpype.JInt(-3))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [3] * 8


def test_signals_stay_with_the_server():
    java_classes((), OPTIONS)
    factory = java("java.lang.management.ManagementFactory")
    arguments = [str(each) for each in factory.getRuntimeMXBean().getInputArguments()]
    assert "-Xrs" in arguments
    assert "-Xmx1024m" in arguments
    assert "-Djavax.xml.accessExternalDTD=" in arguments
    assert jvm.java("java.lang.System").getProperty("java.awt.headless") == "true"
