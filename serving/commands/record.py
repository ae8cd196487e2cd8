"""``model_server record``: makes a warm-up file of logged calls, also while they come."""

from __future__ import annotations

import sys
import threading
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from serving.apis.tensorflow_serving.tensorflow_messages import PredictionLog
from serving.commands.arguments import not_negative, parser_of, positive, told
from serving.commands.log_files import LogFiles
from serving.commands.warm_up_selection import WarmUpSelection
from serving.core.clock import Clock, SystemClock
from serving.core.errors import NotFound
from serving.record_file import framed
from serving.warm_up import MOST_RECORDS

_LOOK_SECONDS = 0.5


def parser() -> ArgumentParser:
    """What the command takes."""
    made = parser_of("record", "Make a warm-up file of the calls in a request log.")
    made.add_argument(
        "--output",
        required=True,
        metavar="FILE",
        help="where to write, VERSION/assets.extra/tf_serving_warmup_requests for one",
    )
    made.add_argument("--model_name", default="", help="take the calls of this model alone")
    made.add_argument(
        "--max_records",
        type=positive,
        default=MOST_RECORDS,
        help=f"write this many at most, {MOST_RECORDS} or less: the most frequent kinds first",
    )
    made.add_argument(
        "--records_per_kind",
        type=positive,
        default=1,
        help="keep so many different requests with the same verb, signature and shapes",
    )
    made.add_argument(
        "--follow_seconds",
        type=not_negative,
        default=0.0,
        help="wait that long for the calls that a server logs meanwhile; Ctrl-C: no longer",
    )
    return made


def main(arguments: Sequence[str], clock: Clock | None = None) -> int:
    """Do what the arguments say; the exit status: 0, or 2 where no file was written."""
    made = parser()
    options = made.parse_args(arguments)
    if options.max_records > MOST_RECORDS:
        made.error(f"argument --max_records: {options.max_records} is above {MOST_RECORDS}")
    return told("record", lambda: _record(options, clock or SystemClock()))


def _record(options: Namespace, clock: Clock) -> int:
    selection = WarmUpSelection(options.records_per_kind, options.model_name)
    files = LogFiles(options.request_log)
    try:
        _take(files, selection, options.follow_seconds, clock)
    except KeyboardInterrupt:
        sys.stderr.write("model_server record: no longer waiting\n")
    records = selection.records(options.max_records)
    if not records:
        of_model = f" of model {options.model_name}" if options.model_name else ""
        raise NotFound(f"there are no calls{of_model} in {options.request_log}")
    _write(Path(options.output), records)
    sys.stdout.write(
        f"{options.output}: {len(records)} requests out of {selection.num_taken} calls\n"
    )
    return 0


def _take(files: LogFiles, selection: WarmUpSelection, seconds: float, clock: Clock) -> None:
    """Every call that is in the files now or comes within so many seconds."""
    until = clock.monotonic() + seconds
    never = threading.Event()
    while True:
        left = until - clock.monotonic()
        try:
            for log in files.read():
                selection.take(log)
        except NotFound:
            if left <= 0:
                raise
        if left <= 0:
            return
        clock.wait(never, min(left, _LOOK_SECONDS))


def _write(path: Path, records: Sequence[PredictionLog]) -> None:
    """The whole file or none: a server may look for it at any time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}-unfinished")
    try:
        unfinished.write_bytes(b"".join(framed(log.SerializeToString()) for log in records))
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
