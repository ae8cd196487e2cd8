"""The settings of a Caffe2 operator, by name and kind."""

from __future__ import annotations

from collections.abc import Sequence

from serving.core.errors import InvalidArgument
from serving.generated.caffe2_net_pb2 import Argument, OperatorDef


class Arguments:
    """Each method gives the argument of a name, or what it is without one.

    Raises InvalidArgument for an argument of another kind. A whole number counts as one with a
    fraction.
    """

    def __init__(self, operator: OperatorDef) -> None:
        self._arguments = {argument.name: argument for argument in operator.arg}

    def __contains__(self, name: object) -> bool:
        return name in self._arguments

    def integer(self, name: str, default: int) -> int:
        argument = self._arguments.get(name)
        if argument is None:
            return default
        if not argument.HasField("i"):
            raise _wrong(argument, "one integer")
        return argument.i

    def number(self, name: str, default: float) -> float:
        argument = self._arguments.get(name)
        if argument is None:
            return float(default)
        if argument.HasField("f"):
            return argument.f
        if argument.HasField("i"):
            return float(argument.i)
        raise _wrong(argument, "one number")

    def text(self, name: str, default: str) -> str:
        argument = self._arguments.get(name)
        if argument is None:
            return default
        if not argument.HasField("s"):
            raise _wrong(argument, "one text")
        return argument.s.decode("utf-8", "replace")

    def integers(self, name: str) -> Sequence[int]:
        """Empty without one."""
        argument = self._arguments.get(name)
        return () if argument is None else tuple(argument.ints)

    def of(self, name: str) -> Argument:
        """The argument as it is written; an empty one without it."""
        return self._arguments.get(name, Argument())


def _wrong(argument: Argument, kind: str) -> InvalidArgument:
    return InvalidArgument(f"argument '{argument.name}' is not {kind}")
