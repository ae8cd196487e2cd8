"""What a server allows scikit-learn models to be."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class SklearnOptions:
    """``allow_pickle``: read files that may run any code as they are read. ``trusted_types``: the
    full names of those that a ``.skops`` may hold beside the ones that skops trusts.
    """

    allow_pickle: bool = False
    trusted_types: tuple[str, ...] = ()
