"""Amounts of bounded things, by device: what a loader needs and what a machine has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple


class Resource(NamedTuple):
    """One bounded thing: ``ram_in_bytes`` of ``main``, or of instance 0 of ``gpu``."""

    kind: str
    device: str = "main"
    instance: int = 0


RAM = Resource("ram_in_bytes")


@dataclass(frozen=True, slots=True)
class ResourceAllocation:
    """How much of each resource. Absent means none. Immutable; sums make new ones."""

    quantities: Mapping[Resource, int] = field(default_factory=dict)

    @classmethod
    def ram(cls, size_bytes: int) -> ResourceAllocation:
        """An amount of main memory, in bytes."""
        return cls({RAM: size_bytes})

    def __add__(self, other: ResourceAllocation) -> ResourceAllocation:
        keys = self.quantities.keys() | other.quantities.keys()
        return ResourceAllocation(
            {key: self.quantities.get(key, 0) + other.quantities.get(key, 0) for key in keys}
        )

    def __sub__(self, other: ResourceAllocation) -> ResourceAllocation:
        """What is left; nothing is left of a resource that reaches zero."""
        left = {
            key: amount - other.quantities.get(key, 0) for key, amount in self.quantities.items()
        }
        return ResourceAllocation({key: amount for key, amount in left.items() if amount})

    def fits_in(self, limit: ResourceAllocation) -> bool:
        """Whether nothing that ``limit`` names is exceeded; what it does not name is unbounded."""
        return all(
            self.quantities.get(resource, 0) <= most for resource, most in limit.quantities.items()
        )

    def __str__(self) -> str:
        return ", ".join(
            f"{key.device}:{key.instance} {key.kind}={amount}"
            for key, amount in sorted(self.quantities.items())
        )
