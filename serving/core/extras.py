"""What this project needs only for some of what it does: the extras of its distribution."""

from __future__ import annotations


def remedy(extra: str) -> str:
    """The command that installs an extra, and where to type it.

    It names a directory, not the distribution: on the package index that name is another project's.
    """
    return f"pip install '.[{extra}]' in a checkout of this server"
