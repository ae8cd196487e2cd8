"""The lines of the server's log: as text, or one JSON object a line."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from serving.core.errors import InvalidArgument
from serving.core.observed_call import CURRENT_CALL, ObservedCall

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")


def set_up_logging(level: str, log_format: str, worker: str = "") -> None:
    """Have the process log to standard error.

    ``worker`` names this process where it is one of several. Raises InvalidArgument for a level
    or format that there is none of.
    """
    if level not in LEVELS:
        raise InvalidArgument(f"log_level must be one of {', '.join(LEVELS)}, not '{level}'")
    if log_format not in FORMATS:
        raise InvalidArgument(f"log_format must be one of {', '.join(FORMATS)}, not '{log_format}'")
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(worker) if log_format == "json" else TextLines(worker))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def rfc3339(seconds: float) -> str:
    """A time since the epoch, in UTC, with microseconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class TextLines(logging.Formatter):
    """Time, level, logger and message; the ids of requests where a line is about any."""

    def __init__(self, worker: str = "") -> None:
        process = " [%(process)d]" if worker else ""
        super().__init__(f"%(asctime)s %(levelname)s{process} %(name)s: %(message)s%(requests)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's own name
        ids = " ".join(f"request_id={call.request_id}" for call in _calls(record))
        record.requests = f" [{ids}]" if ids else ""
        return super().formatMessage(record)


class JsonLines(logging.Formatter):
    """One JSON object a line.

    ``time`` (RFC 3339, UTC), ``level``, ``logger``, ``message``, ``process``; ``worker`` where
    there are several; ``request_id``, ``trace_id`` and ``span_id`` of the request that a line is
    about, ``request_ids`` where it is about several; ``exception`` with its trace.
    """

    def __init__(self, worker: str = "") -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": rfc3339(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        if self._worker:
            line["worker"] = self._worker
        line.update(_ids(list(_calls(record))))
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        return json.dumps(line)


def _calls(record: logging.LogRecord) -> Iterable[ObservedCall]:
    """Those that the line is about: as it says, or the one that its thread works for."""
    calls: Iterable[ObservedCall] | None = getattr(record, "calls", None)
    if calls is not None:
        return calls
    current = CURRENT_CALL.get()
    return () if current is None else (current,)


def _ids(calls: list[ObservedCall]) -> dict[str, Any]:
    if len(calls) > 1:
        return {"request_ids": [call.request_id for call in calls]}
    ids: dict[str, Any] = {}
    for call in calls:
        ids["request_id"] = call.request_id
        if call.trace is not None:
            ids.update(trace_id=call.trace.trace_id, span_id=call.trace.span_id)
    return ids
