"""Whether two models answer the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import DataLoss, FailedPrecondition, ServingError
from serving.core.servable import Servable, Signature, run_and_wait
from serving.inspection.filled import Filled
from serving.inspection.sample_values import has_rows, inputs_to_try

_SEED = 20150928
_ROWS = (1, 2, 7)
_SCALES = (1, 1, 10, 100, 1000)
"""How large numbers are: a tree on features that nobody scaled has but one leaf near 0."""
_RANGES = ((-1000, 1000), (0, 100), (0, 2), (0, 1))
"""Of whole numbers, the first that the source takes: models that look up take few, none below 0."""

Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far numbers may be apart: ``absolute``, and ``relative`` to their size. What is no
    floating-point number has to be equal.
    """

    relative: float = 1e-4
    absolute: float = 1e-5

    def of(self, scale: int) -> Tolerance:
        """For what is computed from such numbers, whose rounding grows with them."""
        return Tolerance(self.relative, self.absolute * scale)


@dataclass(slots=True)
class Verified:
    """What was found: how many requests were answered alike, the largest difference of a number,
    signatures that no random request is answered through, outputs that only the source has.
    """

    requests: int = 0
    largest_difference: float = 0.0
    signatures: list[str] = field(default_factory=list)
    not_compared: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def verify(source: Servable, made: Servable, tolerance: Tolerance) -> Verified:
    """Run both with the same random inputs, through every signature that takes something.

    Raises DataLoss for outputs that differ, FailedPrecondition where nothing could be compared.
    """
    verified = Verified()
    random = np.random.default_rng(_SEED)
    for name, signature in sorted(source.signatures.items()):
        if not signature.inputs:
            continue
        other = made.signatures.get(name)
        if other is None or other.inputs.keys() != signature.inputs.keys():
            verified.left_out.append(f"signature {name}")
            continue
        aliases = [alias for alias in signature.outputs if alias in other.outputs]
        verified.left_out += [
            f"output {alias} of {name}" for alias in signature.outputs if alias not in aliases
        ]
        pair = _Pair(name, _Face(source, signature), _Face(made, other), aliases, tolerance)
        if _compared(pair, random, verified):
            verified.signatures.append(name)
        else:
            verified.not_compared.append(name)
    if not verified.requests:
        raise FailedPrecondition(
            "the models could not be compared: the source answers no random request, or the two "
            "have no signature in common"
        )
    return verified


@dataclass(frozen=True, slots=True)
class _Face:
    """A model, as one signature shows it."""

    servable: Servable
    signature: Signature

    def answer(self, inputs: Mapping[str, np.ndarray], aliases: Sequence[str]) -> Sequence[Any]:
        feeds = {self.signature.inputs[alias].name: values for alias, values in inputs.items()}
        fetches = [self.signature.outputs[alias].name for alias in aliases]
        return run_and_wait(self.servable, feeds, fetches)


@dataclass(frozen=True, slots=True)
class _Pair:
    name: str
    source: _Face
    made: _Face
    aliases: Sequence[str]
    tolerance: Tolerance


def _compared(pair: _Pair, random: np.random.Generator, verified: Verified) -> bool:
    """Whether the source answered any request."""
    shaped = _answered_shapes(pair)
    if shaped is None or not pair.aliases:
        return False
    inputs, between = shaped
    answered = 0
    rows = _ROWS if has_rows(pair.source.signature) else (0,) * len(_ROWS)
    for scale, number in product(_SCALES, rows):
        arrays = {
            alias: _random(_with_rows(filled, number), scale, between, random)
            for alias, filled in inputs.items()
        }
        try:
            before = pair.source.answer(arrays, pair.aliases)
        except ServingError:
            continue  # as a model may that can not look up every number
        try:
            now = pair.made.answer(arrays, pair.aliases)
        except ServingError as error:
            raise DataLoss(
                f"the converted model refuses what the source answers through {pair.name}: "
                f"{error.message}"
            ) from error
        answered += 1
        tolerance = pair.tolerance.of(scale)
        for alias, old, new in zip(pair.aliases, before, now, strict=True):
            difference = _difference(f"{alias} of {pair.name}", old, new, tolerance)
            verified.largest_difference = max(verified.largest_difference, difference)
    verified.requests += answered
    return answered > 0


def _answered_shapes(pair: _Pair) -> tuple[Mapping[str, Filled], Range] | None:
    """Inputs whose sizes the source takes, and between which whole numbers have to be."""
    for between in _RANGES:
        for inputs in inputs_to_try(pair.source.signature):
            try:
                for number in (between[0], between[1] - 1):
                    arrays = {alias: _extreme(each, number) for alias, each in inputs.items()}
                    pair.source.answer(arrays, pair.aliases)
            except ServingError:
                continue
            return inputs, between
    return None


def _extreme(filled: Filled, number: int) -> np.ndarray:
    """All of the number, or of the nearest that the type has; what has no whole numbers as is."""
    dtype = numpy_dtype(filled.dtype)
    if dtype.kind not in "iu":
        return filled.array()
    bounds = np.iinfo(dtype)
    return filled._replace(value=min(max(number, bounds.min), bounds.max)).array()


def _with_rows(filled: Filled, rows: int) -> Filled:
    """0 leaves it as it is."""
    return filled._replace(shape=(rows, *filled.shape[1:])) if rows else filled


def _random(filled: Filled, scale: int, between: Range, random: np.random.Generator) -> np.ndarray:
    dtype, shape = filled.dtype, filled.shape
    if dtype is DType.STRING:
        return filled.array()
    numpy = numpy_dtype(dtype)
    values: np.ndarray
    if dtype is DType.BOOL:
        values = random.integers(0, 2, shape)
    elif numpy.kind in "iu":
        bounds = np.iinfo(numpy)
        low, high = max(between[0], bounds.min), min(between[1], bounds.max + 1)
        values = random.integers(low, high, shape)
    else:
        values = random.normal(size=shape) * scale
    return np.asarray(values).astype(numpy)


def _difference(what: str, old: np.ndarray, new: np.ndarray, tolerance: Tolerance) -> float:
    """The largest; raises DataLoss for one that is too large."""
    if old.shape != new.shape:
        raise DataLoss(f"{what} has shape {list(new.shape)}, not {list(old.shape)}")
    if old.dtype.kind not in "fc" and old.dtype.kind != "V":
        if not np.array_equal(old, new):
            raise DataLoss(f"{what} is {_shown(new)}, not {_shown(old)}")
        return 0.0
    wide = np.complex128 if old.dtype.kind == "c" else np.float64
    before, now = old.astype(wide), new.astype(wide)
    alike = np.isclose(
        now, before, rtol=tolerance.relative, atol=tolerance.absolute, equal_nan=True
    )
    with np.errstate(invalid="ignore"):  # of infinities
        distances = np.abs(now - before)
    finite = distances[np.isfinite(distances)]
    largest = float(finite.max()) if finite.size else 0.0
    if not alike.all():
        raise DataLoss(
            f"{np.count_nonzero(~alike)} of {old.size} values of {what} differ, by up to "
            f"{largest:.3g}"
        )
    return largest


def _shown(values: np.ndarray) -> str:
    return str(values.ravel()[:5].tolist())
