"""Names of models as label values: those of models always, of others a few."""

from __future__ import annotations

import pytest

from serving.metrics import model_names
from serving.metrics.families import OTHER
from serving.metrics.model_names import ModelNames


def test_configured_names_are_shown_whatever_others_were_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(model_names, "_MOST_UNKNOWN", 2)
    configured = ["m"]
    names = ModelNames(lambda: configured)
    asked = [names.shown(name) for name in ("a", "b", "c", "a", "m", "")]
    assert asked == ["a", "b", OTHER, "a", "m", ""]
    configured.append("c")
    assert names.shown("c") == "c"
