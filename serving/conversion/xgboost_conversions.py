"""XGBoost's two formats into each other, and its old one into these."""

from __future__ import annotations

from pathlib import Path

from serving.config.options import ServerOptions
from serving.loaders.xgboost_loader import read_booster


def save(source: str, target: Path, to: str, _options: ServerOptions) -> None:
    """Write ``model.json`` or ``model.ubj``. Raises what the platform ``xgboost`` raises."""
    read_booster(source).save_model(target / f"model.{to}")
