"""How many workers have been replaced: what the supervisor counts itself."""

from __future__ import annotations

from serving.metrics.families import Cells, Description, Family, Kind, Snapshot

DESCRIPTION = Description(
    "model_server_worker_replacements_total",
    "Workers that were replaced because they had ended, or hung and were killed.",
    Kind.COUNTER,
    ("cause",),
)


def replacements(*, ended: int = 0, hung: int = 0) -> Snapshot:
    """So many more than before, by cause."""
    cells: Cells = {("ended",): ended, ("hung",): hung}
    return {DESCRIPTION.name: Family(DESCRIPTION, cells)}
