"""How models are loaded whose frameworks trust their files."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class NativeOptions:
    """``probe``: load each file in a process of its own first, which may crash."""

    probe: bool = True
