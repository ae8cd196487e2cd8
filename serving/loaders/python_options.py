"""Whether a server runs models that are Python classes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PythonOptions:
    """``allow``: run the ``model.py`` of a version, which may do whatever the server may."""

    allow: bool = False
