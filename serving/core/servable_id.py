"""Which servable: a name and a version of it."""

from __future__ import annotations

from typing import NamedTuple


class ServableId(NamedTuple):
    """One version of one servable. Sorts by name, then version."""

    name: str
    version: int

    def __str__(self) -> str:
        return f"{{name: {self.name} version: {self.version}}}"


class ServableRequest(NamedTuple):
    """A wish for a version of a servable; ``version`` None means the highest available one."""

    name: str
    version: int | None = None

    def __str__(self) -> str:
        if self.version is None:
            return f"Latest({self.name})"
        return f"Specific({self.name}, {self.version})"
