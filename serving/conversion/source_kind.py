"""What kind of model a version is, where its platform has several."""

from __future__ import annotations

from pathlib import Path

_SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
_SESSION_BUNDLE = "export.meta"


def kind_of(platform: str, directory: str) -> str:
    """The platform's name, or for ``tensorflow`` what lies in the directory, in the order in which
    it would be loaded.
    """
    if platform != "tensorflow":
        return platform
    if any(Path(directory, name).exists() for name in _SAVED_MODEL):
        return "saved_model"
    return "session_bundle" if Path(directory, _SESSION_BUNDLE).exists() else "graph_def"
