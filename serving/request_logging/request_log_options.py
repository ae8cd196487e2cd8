"""What holds for the request logs of all models."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestLogOptions:
    """When files end, and which server of a fleet this is.

    A file ends when it has ``max_file_bytes`` or is ``max_file_seconds`` old. The oldest files of
    a prefix are deleted when together they have more than ``max_total_bytes``; 0: never.
    ``is_replacement``: other processes have the logs of the first configuration already, so that
    one is not refused for a directory that can not be written to.
    """

    max_file_bytes: int = 64 << 20
    max_file_seconds: int = 3600
    max_total_bytes: int = 0
    dc: str = ""
    task_index: int = 0
    is_replacement: bool = False
