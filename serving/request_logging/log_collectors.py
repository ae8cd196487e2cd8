"""The kinds of request logs, by the names that configurations give them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from google.protobuf.json_format import MessageToJson

from serving.apis.tensorflow_serving.tensorflow_messages import PredictionLog
from serving.core.clock import Clock
from serving.request_logging.request_log_options import RequestLogOptions
from serving.request_logging.rotating_files import RotatingFiles


class LogCollector(Protocol):
    """Takes records, which are serialized PredictionLogs. Not thread-safe."""

    def collect(self, record: bytes) -> None:
        """Keep the record; raises OSError where it can not."""

    def is_open(self) -> bool:
        """Whether there is something to close, but for what had its time and is closed now.

        Called every few seconds.
        """

    def close(self) -> None:
        """End what is open; the next record begins it anew."""


class FileCollector:
    """Appends records, each in the form that ``encode`` gives it, to rotating files."""

    def __init__(self, files: RotatingFiles, encode: Callable[[bytes], bytes]) -> None:
        self._files = files
        self._encode = encode

    def collect(self, record: bytes) -> None:
        self._files.write(self._encode(record))

    def is_open(self) -> bool:
        self._files.close_if_over()
        return self._files.is_open

    def close(self) -> None:
        self._files.close()


def _tfrecord(prefix: str, options: RequestLogOptions, clock: Clock) -> LogCollector:
    from serving.record_file import framed  # noqa: PLC0415  # the supervisor needs no checksums

    return FileCollector(RotatingFiles(prefix, ".tfrecord", options, clock), framed)


def _json_lines(prefix: str, options: RequestLogOptions, clock: Clock) -> LogCollector:
    return FileCollector(RotatingFiles(prefix, ".jsonl", options, clock), _json_line)


def _json_line(record: bytes) -> bytes:
    message = PredictionLog.FromString(record)
    return MessageToJson(message, preserving_proto_field_name=True, indent=None).encode() + b"\n"


MakeCollector = Callable[[str, RequestLogOptions, Clock], LogCollector]
"""Makes the collector of a filename prefix; writes nothing yet."""

LOG_COLLECTORS: Mapping[str, MakeCollector] = {"jsonl": _json_lines, "tfrecord": _tfrecord}
"""By ``log_collector_config.type``: JSON objects, one a line, or a TFRecord file."""
