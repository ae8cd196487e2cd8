"""The attributes of an MXNet operator, which are all texts, as what they mean."""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from serving.core.errors import InvalidArgument

_NONE = "None"
_DTYPES = ("float16", "float32", "float64", "uint8", "int8", "int32", "int64", "bool")


class Attributes:
    """Typed values by name. What is not there is the default; ``None`` is None.

    Each method raises InvalidArgument, naming the attribute, for a text that means no such value.
    """

    def __init__(self, texts: Mapping[str, str]) -> None:
        self._texts = texts

    def __contains__(self, name: str) -> bool:
        return self._texts.get(name, _NONE) != _NONE

    def text(self, name: str, default: str = "") -> str:
        return self._texts[name] if name in self else default

    def flag(self, name: str, default: bool = False) -> bool:
        text = self.text(name, str(default))
        if text.lower() in ("true", "1"):
            return True
        if text.lower() in ("false", "0"):
            return False
        raise _wrong(name, "true or false", text)

    def integer(self, name: str, default: int) -> int:
        return _integer(name, self.text(name, str(default)))

    def required_integer(self, name: str) -> int:
        """Raises InvalidArgument also where there is none."""
        return _integer(name, self.text(name))

    def number(self, name: str, default: float) -> float:
        text = self.text(name, str(default))
        try:
            return float(text)
        except ValueError:
            raise _wrong(name, "a number", text) from None

    def integers(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """A list; one number alone is a list of it."""
        listed = self.optional_integers(name)
        if None in listed:
            raise _wrong(name, "a list of integers", self.text(name))
        return tuple(each for each in listed if each is not None) if name in self else default

    def optional_integers(self, name: str) -> tuple[int | None, ...]:
        """A list in which ``None`` stands as None."""
        parts = re.sub(r"^[\[(]|[\])]$", "", self.text(name).strip()).split(",")
        return tuple(
            None if part.strip() == _NONE else _integer(name, part.strip())
            for part in parts
            if part.strip()
        )

    def dtype(self, name: str, default: str) -> np.dtype:
        text = self.text(name, default)
        if text not in _DTYPES:
            raise _wrong(name, f"one of {', '.join(_DTYPES)}", text)
        return np.dtype(text)


def _integer(name: str, text: str) -> int:
    """Python 2 wrote long ones with an L behind."""
    if not re.fullmatch(r"[+-]?\d{1,18}L?", text):
        raise _wrong(name, "an integer", text)
    return int(text.removesuffix("L"))


def _wrong(name: str, wanted: str, text: str) -> InvalidArgument:
    return InvalidArgument(f"its attribute {name} must be {wanted}, not {text[:80]!r}")
