"""Functions of Java put together from its own methods.

With them Java goes through a batch by itself: a call from Python costs as much as a small model.
"""

from __future__ import annotations

from typing import Any

from serving.loaders.jvm import java


def method(owner: Any, name: str, result: Any, *parameters: Any) -> Any:
    """A handle on a public method of a class; the object is its first argument.

    Types are objects of java.lang.Class.
    """
    return _lookup().findVirtual(owner.class_, name, _type(result, parameters))


def static_method(owner: Any, name: str, result: Any, *parameters: Any) -> Any:
    """A handle on a public static method of a class."""
    return _lookup().findStatic(owner.class_, name, _type(result, parameters))


def then(first: Any, second: Any) -> Any:
    """A handle that hands what the first returns to the second, whatever classes the types say."""
    taken = second.type().parameterType(0)
    return _handles().filterReturnValue(first.asType(first.type().changeReturnType(taken)), second)


def with_argument(handle: Any, position: int, value: Any) -> Any:
    """A handle that lacks one parameter, whose value is always this one."""
    return _handles().insertArguments(handle, position, value)


def made_anew(handle: Any, position: int, maker: Any) -> Any:
    """A handle that lacks one parameter, for which ``maker`` is called each time."""
    return _handles().collectArguments(handle, position, maker)


def array_of_doubles(length: int) -> Any:
    """A handle without parameters that makes an array of zeros."""
    made = _handles().arrayConstructor(java("java.lang.Class").forName("[D"))
    return with_argument(made, 0, java("java.lang.Integer").valueOf(length))


def changing(handle: Any) -> Any:
    """A handle that calls another for what it does to its one argument, and returns that one."""
    kind = handle.type()
    same = _handles().identity(kind.parameterType(0))
    return _handles().foldArguments(_handles().dropArguments(same, 0, kind.returnType()), handle)


def function(handle: Any, interface: str = "Function") -> Any:
    """The handle as an object of this interface of java.util.function, as streams take it."""
    proxies = java("java.lang.invoke.MethodHandleProxies")
    return proxies.asInterfaceInstance(java(f"java.util.function.{interface}").class_, handle)


def stream(array: Any) -> Any:
    """The elements of an array of objects, to be mapped."""
    return java("java.util.Arrays").stream(array)


def _handles() -> Any:
    return java("java.lang.invoke.MethodHandles")


def _lookup() -> Any:
    return _handles().publicLookup()


def _type(result: Any, parameters: tuple[Any, ...]) -> Any:
    kind = java("java.lang.invoke.MethodType")
    return kind.methodType(result, list(parameters)) if parameters else kind.methodType(result)
