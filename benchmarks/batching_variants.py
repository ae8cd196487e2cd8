"""The servers of the measurements of batching: one program, and files of BatchingParameters."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_sizes import MONITORING_CONFIG
from rounds import Row
from servers import Program, model_server

UNBATCHED = "unbatched"
FIXED = "fixed"
ADAPTIVE = "adaptive"
BUILT_IN = (UNBATCHED, FIXED, ADAPTIVE)
_AS_GOOD = 0.95
# Nobody tunes by hand for requests that are refused: there is room for all that come here.
_FIXED_PARAMETERS = """\
max_batch_size {{ value: {size} }}
batch_timeout_micros {{ value: {timeout} }}
max_enqueued_batches {{ value: 1000 }}
pad_variable_length_inputs: true
"""
_ADAPTIVE_PARAMETERS = """\
batching_mode: ADAPTIVE
pad_variable_length_inputs: true
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tuned by hand: rows of a batch at most, and µs that the first one waits."""

    max_batch_size: int
    batch_timeout_micros: int

    def __str__(self) -> str:
        return f"{FIXED} {self.max_batch_size} rows, {self.batch_timeout_micros} µs"

    @property
    def parameters(self) -> str:
        return _FIXED_PARAMETERS.format(size=self.max_batch_size, timeout=self.batch_timeout_micros)


def grid(text: str) -> list[Setting]:
    """All combinations of sizes and timeouts, from ``8,64x0,1000``."""
    sizes, timeouts = (map(int, part.split(",")) for part in text.split("x"))
    return [Setting(*pair) for pair in itertools.product(sizes, timeouts)]


def parameters_of(
    variants: Sequence[str], settings: Sequence[Setting], files: Mapping[str, str]
) -> dict[str, str | None]:
    """Names of servers and their BatchingParameters, None for a server without batching.

    ``fixed`` is as many servers as there are settings. ``files`` are further ones, by name.
    Raises ValueError for a variant that there is not.
    """
    named: dict[str, str | None] = {}
    for variant in variants:
        if variant == UNBATCHED:
            named[variant] = None
        elif variant == FIXED:
            named |= {str(setting): setting.parameters for setting in settings}
        elif variant == ADAPTIVE:
            named[variant] = _ADAPTIVE_PARAMETERS
        else:
            raise ValueError(f"{variant}: a variant is one of {', '.join(BUILT_IN)}")
    return named | {name: Path(file).read_text() for name, file in files.items()}


def program(name: str, parameters: str | None, models: Path, directory: Path) -> Program:
    """The server; its files are in the directory. It has a metrics page, which tells of batches."""
    monitoring = directory / "monitoring.pbtxt"
    monitoring.write_text(MONITORING_CONFIG)
    flags = ["--rest_bind_address=127.0.0.1:0", f"--monitoring_config_file={monitoring}"]
    if parameters is not None:
        file = directory / f"{name}.pbtxt"
        file.write_text(parameters)
        flags += ["--enable_batching", f"--batching_parameters_file={file}"]
    return model_server(name, flags, models)


def best(rows: Sequence[Row]) -> Row:
    """The setting that someone would choose who tunes by hand.

    Of those whose rate is next to the highest, the one whose slowest answers come soonest.
    """
    highest = max(map(rate, rows))
    good = [row for row in rows if rate(row) >= _AS_GOOD * highest]
    return min(good, key=lambda row: statistics.median(one.load.p99_us for one in row.samples))


def rate(row: Row) -> float:
    """Requests per second, the median of the rounds."""
    return statistics.median(sample.requests_per_second for sample in row.samples)
