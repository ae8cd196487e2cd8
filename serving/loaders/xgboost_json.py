"""How deep a JSON document goes: XGBoost's reader calls itself for each level, without a bound."""

from __future__ import annotations

import re

MOST_LEVELS = 64  # XGBoost's models have seven, in JSON and in UBJSON

# A text is passed over whole, also one that does not end: no byte is looked at twice.
_TEXT_OR_BRACKET = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?|[\[{]|[\]}]', re.DOTALL)


def is_shallow(content: bytes) -> bool:
    """Whether arrays and objects stand within each other at no more than ``MOST_LEVELS`` levels.

    Says nothing about whether the document is whole.
    """
    level = 0
    for found in _TEXT_OR_BRACKET.finditer(content):
        kind = content[found.start()]
        if kind in b"[{":
            level += 1
            if level > MOST_LEVELS:
                return False
        elif kind in b"]}":
            level = max(level - 1, 0)
    return True
