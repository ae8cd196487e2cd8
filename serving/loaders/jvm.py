"""The Java virtual machine in this process, which platforms written for it share.

There can be one in a process, and it can not be started again. What each platform brings is loaded
by a class loader of its own, so the libraries of one are never those of another.
"""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jpype

from serving.core.errors import FailedPrecondition, InvalidArgument, ResourceExhausted, ServingError
from serving.loaders.jvm_options import JvmOptions

log = logging.getLogger(__name__)

_ARGUMENTS = (
    "-Xrs",  # signals stay with the server
    "-Djava.awt.headless=true",
    "-Djavax.xml.accessExternalDTD=",
    "-Djavax.xml.accessExternalSchema=",
)
_REHEARSAL = "import sys, jpype; jpype.startJVM(*sys.argv[1:], convertStrings=False)"
_REHEARSAL_SECONDS = 120
_lock = threading.Lock()
_made: dict[tuple[Path, ...], JavaClasses] = {}


class JavaClasses:
    """The classes of some jars, beside those of Java itself; see :func:`java_classes`.

    Thread-safe: any thread may call Java, and lets others run Python meanwhile.
    """

    def __init__(self, jars: Sequence[Path]) -> None:
        files = [java("java.io.File")(str(jar)).toURI().toURL() for jar in jars]
        self._loader = java("java.net.URLClassLoader")(
            jpype.JArray(java("java.net.URL"))(files),
            java("java.lang.ClassLoader").getPlatformClassLoader(),
        )

    def __getitem__(self, name: str) -> Any:
        """The class of this full name. Raises KeyError where there is none."""
        try:
            return jpype.JClass(name, loader=self._loader)
        except jpype.JException as error:
            raise KeyError(name) from error

    def array_of(self, name: str) -> Any:
        """The java.lang.Class of arrays of this class."""
        return java("java.lang.Class").forName(f"[L{name};", False, self._loader)

    def use_services(self) -> None:
        """Have Java's ServiceLoader look into the jars where this thread calls it."""
        java("java.lang.Thread").currentThread().setContextClassLoader(self._loader)


def java_classes(jars: tuple[Path, ...], options: JvmOptions) -> JavaClasses:
    """The classes of these jars, always the same ones; starts the machine if need be.

    Raises FailedPrecondition where Java is not installed or can not be started.
    """
    with _lock:
        _start(options)
        if jars not in _made:
            _made[jars] = JavaClasses(jars)
        return _made[jars]


def java(name: str) -> Any:
    """A class of Java itself; the machine has to run."""
    return jpype.JClass(name)


def java_error(
    error: Any, refused: str, otherwise: type[ServingError] = InvalidArgument
) -> ServingError:
    """What an exception of Java means: that memory is short, or that something is ``refused``.

    One that no library means for its callers is logged, and is ``otherwise`` without its text.
    """
    if isinstance(error, java("java.lang.reflect.UndeclaredThrowableException")):
        error = error.getCause()
    if isinstance(error, java("java.lang.OutOfMemoryError")):
        return ResourceExhausted(
            "the heap of the Java virtual machine is full; --jvm_max_heap_mb makes it larger"
        )
    is_defect = isinstance(error, (java("java.lang.RuntimeException"), java("java.lang.Error")))
    if is_defect and not isinstance(error, java("java.lang.IllegalArgumentException")):
        log.error("%s", refused, exc_info=error)
        name = type(error).__name__.rpartition(".")[2]
        return otherwise(f"{refused} ({name}, which the log shows)")
    return InvalidArgument(f"{refused}: {error.getMessage()}")


def check_can_start(arguments: Sequence[str]) -> None:
    """Start a machine like this in another process, as one that fails to start ends its process.

    Raises FailedPrecondition with what it has said.
    """
    try:
        rehearsal = subprocess.run(
            [sys.executable, "-P", "-c", _REHEARSAL, *arguments],
            capture_output=True,
            text=True,
            timeout=_REHEARSAL_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FailedPrecondition("the Java virtual machine does not start") from error
    if rehearsal.returncode:
        said = [line for line in (rehearsal.stdout + rehearsal.stderr).splitlines() if line.strip()]
        log.error("the Java virtual machine does not start:\n%s", "\n".join(said))
        raise FailedPrecondition(f"the Java virtual machine does not start: {' '.join(said[-1:])}")


def _start(options: JvmOptions) -> None:
    if jpype.isJVMStarted():
        return
    try:
        jpype.getDefaultJVMPath()
    except jpype.JVMNotFoundException as error:
        raise FailedPrecondition(
            "Java is not installed, or not where it is looked for: install Java 11 or newer, "
            "as `apt-get install default-jre-headless` does, or set JAVA_HOME to where it is"
        ) from error
    arguments = (*_ARGUMENTS, f"-Xmx{options.max_heap_mb}m")
    check_can_start(arguments)
    jpype.startJVM(*arguments, convertStrings=False)
