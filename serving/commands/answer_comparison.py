"""Whether two answers to the same request say the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np

from serving.apis.tensorflow_serving.tensor_codec import decode_tensor


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far numbers may be from the ones before: ``absolute``, and ``relative`` to
    their size.

    Whole numbers, texts and truth values have to be equal.
    """

    relative: float = 1e-5
    absolute: float = 1e-6


def differences(before: Any, now: Any, tolerance: Tolerance) -> Sequence[str]:
    """In which ways a response is another one than before; empty where it says the same.

    Both are responses of one verb of PredictionService. The version that answered may be another.
    """
    return [
        f"{what}: {text}"
        for what, old, new in _pairs(before, now)
        if (text := _difference(old, new, tolerance))
    ]


_Arrays = Mapping[str, np.ndarray]


def _pairs(before: Any, now: Any) -> Iterator[tuple[str, np.ndarray | None, np.ndarray | None]]:
    """What is called the same in both, None where one does not have it."""
    old, new = _arrays(before), _arrays(now)
    for what in sorted(old.keys() | new.keys()):
        yield what, old.get(what), new.get(what)


def _arrays(response: Any) -> _Arrays:
    fields = response.DESCRIPTOR.fields_by_name
    if "outputs" in fields:
        return {f"output {alias}": decode_tensor(it) for alias, it in response.outputs.items()}
    if "result" in fields:
        return _of_result(response.result)
    found: dict[str, np.ndarray] = {}
    for number, entry in enumerate(response.results):
        kind = entry.WhichOneof("result")
        if kind is not None:
            arrays = _of_result(getattr(entry, kind))
            found |= {f"task {number}, {what}": array for what, array in arrays.items()}
    return found


def _of_result(result: Any) -> _Arrays:
    """Of a ClassificationResult or a RegressionResult."""
    if "regressions" in result.DESCRIPTOR.fields_by_name:
        return {"values": np.array([each.value for each in result.regressions], np.float32)}
    rows = [row.classes for row in result.classifications]
    labels = [[each.label.encode() for each in row] for row in rows]
    scores = [[each.score for each in row] for row in rows]
    return {"labels": _table(labels, b"", np.object_), "scores": _table(scores, np.nan, np.float32)}


def _table(rows: Sequence[Sequence[object]], filler: object, dtype: type) -> np.ndarray:
    """The rows as an array; shorter ones are filled up."""
    columns = list(zip_longest(*rows, fillvalue=filler))
    return np.array(columns, dtype).T.reshape(len(rows), len(columns))


def _difference(old: np.ndarray | None, new: np.ndarray | None, tolerance: Tolerance) -> str:
    if old is None or new is None:
        return "is new" if old is None else "is missing"
    if old.dtype != new.dtype:
        return f"has type {new.dtype}, not {old.dtype}"
    if old.shape != new.shape:
        return f"has shape {list(new.shape)}, not {list(old.shape)}"
    if old.dtype.kind == "V":  # numbers that numpy itself does not have, bfloat16 for one
        old, new = old.astype(np.float64), new.astype(np.float64)
    differs = np.logical_not(_alike(old, new, tolerance))
    if not differs.any():
        return ""
    place = _worst(old, new, differs)
    where = f" at {list(place)}" if place else ""
    return (
        f"{np.count_nonzero(differs)} of {old.size} values differ, the most{where}: "
        f"{new[place]}, not {old[place]}"
    )


def _alike(old: np.ndarray, new: np.ndarray, tolerance: Tolerance) -> np.ndarray:
    alike: np.ndarray
    if np.issubdtype(old.dtype, np.inexact):
        relative, absolute = tolerance.relative, tolerance.absolute
        alike = np.isclose(new, old, rtol=relative, atol=absolute, equal_nan=True)
    else:
        alike = np.equal(old, new)
    return alike


def _worst(old: np.ndarray, new: np.ndarray, differs: np.ndarray) -> tuple[int, ...]:
    """Where numbers are farthest apart, or the first place where what are no numbers differ."""
    if np.issubdtype(old.dtype, np.inexact):
        with np.errstate(invalid="ignore"):  # of infinities
            distance = np.where(differs, np.nan_to_num(np.abs(new - old), nan=np.inf), -1)
        flat = int(np.argmax(distance))
    else:
        flat = int(np.argmax(differs))
    return tuple(int(index) for index in np.unravel_index(flat, old.shape))
