"""A spelling corrector, as a model of the platform ``python``: the nearest of the known words."""

from __future__ import annotations

import difflib
from pathlib import Path

import numpy as np


class Model:
    """Known words are the lines of ``words.txt`` beside this file."""

    inputs = {"text": {"dtype": "string", "shape": [None]}}  # noqa: RUF012  # read, never changed
    outputs = {  # noqa: RUF012  # as above
        "word": {"dtype": "string", "shape": [None]},
        "likeness": {"dtype": "float", "shape": [None]},
    }

    def load(self, path):
        """``path`` is the version's directory."""
        self.words = Path(path, "words.txt").read_text(encoding="utf-8").split()

    def predict(self, inputs):
        """For each text the word that is most like it, and how much, from 0 to 1."""
        try:
            texts = [text.decode().lower() for text in inputs["text"]]
        except UnicodeDecodeError:
            raise ValueError("text has to be UTF-8") from None
        nearest = [max((likeness(text, word), word) for word in self.words) for text in texts]
        return {
            "word": [word for _, word in nearest],
            "likeness": np.array([like for like, _ in nearest], np.float32),
        }


def likeness(text, word):
    """How much of both stands in the same order in both."""
    return difflib.SequenceMatcher(None, text, word).ratio()
