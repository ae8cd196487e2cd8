"""Reads PredictionLogs back: from request logs, also while they are written, and warm-up files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from google.protobuf import json_format

from serving.apis.tensorflow_serving.prediction_log import parse_prediction_log
from serving.apis.tensorflow_serving.tensorflow_messages import PredictionLog
from serving.core.errors import DataLoss, InvalidArgument, NotFound
from serving.record_file import RecordReader
from serving.request_logging.log_file_names import log_files

_JSON_LINES = ".jsonl"
_SUFFIXES = (".tfrecord", _JSON_LINES)


class LogFiles:
    """The files that a path names: itself, or all of a request log with that prefix.

    Each :meth:`read` goes on behind the last record of the one before, in files that were there
    and in new ones. Not thread-safe.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._positions: dict[Path, int] = {}

    def read(self) -> Iterator[PredictionLog]:
        """The records that have come, oldest file first; one that is half written waits.

        Raises NotFound where there is no file, DataLoss or InvalidArgument, naming the file, for
        what is no record.
        """
        files = self._files()
        if not files:
            raise NotFound(f"{self._path} is no file, and no request log has this prefix")
        for file in files:
            records = self._lines(file) if file.suffix == _JSON_LINES else self._records(file)
            with suppress(FileNotFoundError):  # the server that writes them also deletes the oldest
                yield from records

    def _files(self) -> Sequence[Path]:
        if self._path.is_file():
            return [self._path]
        return sorted(log_files(self._path, _SUFFIXES)) if self._path.parent.is_dir() else []

    def _records(self, path: Path) -> Iterator[PredictionLog]:
        with path.open("rb") as file:
            reader = RecordReader(file, self._positions.get(path, 0), may_be_cut=True)
            try:
                for record in reader:
                    log = parse_prediction_log(record)
                    if log is None:
                        raise InvalidArgument(f"{path} holds a record that is no PredictionLog")
                    self._positions[path] = reader.position
                    yield log
            except DataLoss as error:
                raise DataLoss(f"{path}: {error.message}") from None

    def _lines(self, path: Path) -> Iterator[PredictionLog]:
        with path.open("rb") as file:
            file.seek(self._positions.get(path, 0))
            while (line := file.readline()).endswith(b"\n"):
                try:
                    log = json_format.Parse(line, PredictionLog())
                except json_format.ParseError as error:
                    raise InvalidArgument(
                        f"{path} has a line that is no PredictionLog: {error}"
                    ) from None
                self._positions[path] = file.tell()
                yield log
