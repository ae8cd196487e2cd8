"""How the Java virtual machine is started; importing this starts nothing."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class JvmOptions:
    """``max_heap_mb``: what all objects of Java may take together, in MiB."""

    max_heap_mb: int = 1024
