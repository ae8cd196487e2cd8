"""How large batches should be and how many of them should run at once, found by trying."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from serving.batching.batch_rates import BatchRates, Cell, cell_of

_GOOD_ENOUGH_TO_STAY = 0.92
_GOOD_ENOUGH_TO_GO_BACK_TO = 0.95
_GOOD_ENOUGH_TO_GO_ON_FROM = 0.95
_WEIGHT_OF_THE_LATEST = 0.125
_DOUBT = 0.1
"""Of the rate that a single batch says; less of that of several."""

_BATCHES_TO_KNOW = 4
"""For each that runs beside another: how much they hinder each other takes a while to show."""

_MOST_TRIALS_OF_THE_UNKNOWN = 2
_LOADS_BETWEEN_TRIALS = 400
"""A trial holds up about as many requests as there are at a time, twice: less than 1 % of all."""


class Setting(NamedTuple):
    """The most rows of a batch, and the most batches at once."""

    limit: int
    at_once: int


class AdaptiveSetting:
    """Finds the setting with the most rows a second, measured, by trying those beside it.

    It begins with the smallest batches on all threads, as without batching. What was never run is
    tried when there are enough requests for it, what is known now and then, since models and
    machines change; both only one step from what was found, or from its equal there. A trial ends
    with the first batch that tells. Of settings that bring about the same, that with the smallest
    batches is in force. Not thread-safe.
    """

    def __init__(
        self, sizes: Sequence[int], instances: int, most_at_once: Callable[[], int]
    ) -> None:
        """``sizes``: what to choose from, ascending. ``instances`` are kept busy, at least."""
        self._sizes = sizes
        self._instances = instances
        self._most_at_once = most_at_once
        self._rates = BatchRates()
        self._task_rows = 1.0
        self._places: dict[int, dict[Setting, _Place]] = {}  # by demand
        self._places_are_for: tuple[int, int] = (0, 0)
        self._found = self.in_force = Setting(sizes[0], max(instances, most_at_once()))
        self._batches_of_found = 0
        self._trial: _Trial | None = None
        self._tried: dict[Cell, int] = {}
        self._turn = 0
        self._rows_until_trial = 0.0

    @property
    def limit(self) -> int:
        """The most rows that the next batch should have."""
        return self.in_force.limit

    @property
    def is_trial(self) -> bool:
        """Whether the setting in force is being tried."""
        return self._trial is not None

    @property
    def at_once(self) -> float:
        """The most batches that should be in progress; inf where they are single tasks."""
        return math.inf if self._is_of_single_tasks(self.limit) else self.in_force.at_once

    @property
    def best_rate(self) -> float:
        """Rows a second of the best setting that was run; 0 while none is known well."""
        return self._rates.best()

    def ran(self, tasks: int, rows: int, at_once: float, seconds: float) -> None:
        """Hear how long a batch took, and how many were in progress meanwhile, in the mean."""
        self._task_rows += _WEIGHT_OF_THE_LATEST * (rows / tasks - self._task_rows)
        self._rows_until_trial -= rows
        cell = cell_of(at_once, rows)
        self._rates.learn(cell, rows, seconds)
        if self._trial is not None and cell == self._trial.place.cell:
            self._judge(self._trial, rows / max(seconds, 1e-9))

    def choose(self, demand: int, running: int) -> None:
        """Set what the next batches are to be, with so many rows to be had and batches running."""
        if self._trial is not None:
            self._trial.batches_left -= 1
            if self._trial.batches_left > 0:
                return
        self._trial = None
        places = self._places_for(demand)
        rates = self._known_rates(places)
        if rates and (best := self._best(rates)) != self._found:
            self._found = best
            self._batches_of_found = 0
        self._batches_of_found += 1
        self.in_force = self._found
        if rates:
            self._try_another(places, rates, demand, running)

    def _judge(self, trial: _Trial, rate: float) -> None:
        """End the trial, unless its batch was slow and the first of its kind."""
        is_first = self._rates.count(trial.place.cell) == 1
        if not is_first or rate * trial.place.at_once >= trial.to_beat:
            trial.batches_left = 0

    def _best(self, rates: Mapping[Setting, float]) -> Setting:
        """The first, by size, with nearly the best rate."""
        best = max(rates.values())
        return next(one for one in rates if rates[one] >= best * self._least_share(one))

    def _least_share(self, setting: Setting) -> float:
        """Of the best rate, for a setting to be chosen: more for what was not found before."""
        return _GOOD_ENOUGH_TO_STAY if setting >= self._found else _GOOD_ENOUGH_TO_GO_BACK_TO

    def _try_another(
        self, places: _Places, rates: Mapping[Setting, float], demand: int, running: int
    ) -> None:
        found = places.get(self._found)
        if found is None or self._batches_of_found <= _BATCHES_TO_KNOW * (found.at_once - 1):
            return
        setting = self._unknown(found.cell, places, rates)
        if setting is None and self._rows_until_trial <= 0:
            setting = self._next_in_turn(found.cell, places)
        if setting is None:
            return
        place = places[setting]
        self._tried[place.cell] = self._tried.get(place.cell, 0) + 1
        self._rows_until_trial = _LOADS_BETWEEN_TRIALS * max(1, demand)
        self._trial = _Trial(place, max(rates.values()), running + 3 * setting.at_once + 2)
        self.in_force = setting

    def _unknown(
        self, found: Cell, places: _Places, rates: Mapping[Setting, float]
    ) -> Setting | None:
        """One that was never run, beside what was found or its equal there."""
        least = _GOOD_ENOUGH_TO_GO_ON_FROM * max(rates.values())
        beside = _beside(found, places)
        equal = [places[setting].cell for setting in beside if rates.get(setting, 0) >= least]
        for cell in (found, *equal):
            for setting in _beside(cell, places):
                tried = self._tried.get(places[setting].cell, 0)
                if setting not in rates and tried < _MOST_TRIALS_OF_THE_UNKNOWN:
                    return setting
        return None

    def _next_in_turn(self, found: Cell, places: _Places) -> Setting | None:
        """One of those beside what was found, or the first of all."""
        others = dict.fromkeys([next(iter(places)), *_beside(found, places)])
        others.pop(self._found, None)
        if not others:
            return None
        self._turn += 1
        return list(others)[self._turn % len(others)]

    def _known_rates(self, places: _Places) -> dict[Setting, float]:
        """Rows a second of all batches at once, less where few of them were run."""
        rates = {}
        for setting, (cell, at_once) in places.items():
            rate = self._rates.rate(cell)
            if rate is None and setting == self._found:
                rate = self._rate_with_fewer(cell)
            if rate is not None:
                doubt = _DOUBT / math.sqrt(max(1, self._rates.count(cell)))
                rates[setting] = rate * at_once * (1 - doubt)
        return rates

    def _rate_with_fewer(self, cell: Cell) -> float | None:
        """With as many at once as there are when others hold the threads."""
        fewer = (self._rates.rate(Cell(level, cell.rows)) for level in range(cell.at_once, -1, -1))
        return next((rate for rate in fewer if rate is not None), None)

    def _places_for(self, demand: int) -> _Places:
        """All settings that make a difference with so many rows to be had, by size."""
        bounds = max(self._instances, self._most_at_once()), max(1, round(self._task_rows))
        if self._places_are_for != bounds:
            self._places_are_for = bounds
            self._places.clear()
        rows = _rounded(demand)
        if rows not in self._places:
            self._places[rows] = self._made_places(rows, *bounds)
        return self._places[rows]

    def _made_places(self, rows: int, most: int, task_rows: int) -> dict[Setting, _Place]:
        places: dict[Setting, _Place] = {}
        for at_once in self._numbers_at_once(most):
            share = -(-rows // at_once)
            for limit in self._sizes:
                is_single = self._is_of_single_tasks(limit)
                if not is_single or Setting(limit, at_once) == (self._sizes[0], most):
                    size = max(task_rows, min(limit, share))
                    in_progress = min(at_once, max(1, rows / size))
                    place = _Place(cell_of(in_progress, size), in_progress)
                    places[Setting(limit, at_once)] = place
                if limit >= share and not is_single:
                    break
        return dict(sorted(places.items()))

    def _numbers_at_once(self, most: int) -> list[int]:
        numbers = [self._instances]
        while numbers[-1] * 2 <= most / math.sqrt(2):  # else it counts as the most
            numbers.append(numbers[-1] * 2)
        return numbers if most == self._instances else [*numbers, most]

    def _is_of_single_tasks(self, limit: int) -> bool:
        """Whether batches of so many rows join no tasks."""
        return limit < 2 * round(self._task_rows)


class _Place(NamedTuple):
    """Where batches of a setting count, and how many of them there are at once."""

    cell: Cell
    at_once: float


_Places = Mapping[Setting, _Place]


class _Trial:
    """What is tried, the rate that it has to beat, and for how many batches at most."""

    __slots__ = ("batches_left", "place", "to_beat")

    def __init__(self, place: _Place, to_beat: float, batches_left: int) -> None:
        self.place = place
        self.to_beat = to_beat
        self.batches_left = batches_left


def _beside(cell: Cell, places: _Places) -> list[Setting]:
    """The settings whose batches count one step from there."""
    return [
        setting
        for setting, (other, _) in places.items()
        if other != cell
        and abs(other.at_once - cell.at_once) <= 1
        and abs(other.rows - cell.rows) <= 1
    ]


def _rounded(demand: int) -> int:
    """Up, to a number of which only the first three binary digits are not zero."""
    step = 1 << max(0, demand.bit_length() - 3)
    return -(-max(1, demand) // step) * step
