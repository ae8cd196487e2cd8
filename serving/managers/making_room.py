"""Decides which versions leave so that others fit: a function of what waits and what is held."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId


@dataclass(frozen=True, slots=True)
class Share:
    """What a version holds, or is going to need."""

    id: ServableId
    amount: ResourceAllocation


@dataclass(frozen=True, slots=True)
class Plan:
    """What can be loaded now, and what has to be unloaded for the sake of the others."""

    load: Sequence[ServableId]
    unload: Sequence[ServableId]


def make_room(
    waiting: Sequence[Share],
    *,
    used: ResourceAllocation,
    leaving: ResourceAllocation,
    limit: ResourceAllocation,
    candidates: Callable[[], Iterable[Share]],
) -> Plan:
    """Serve those who wait, in their order.

    ``used`` counts everything in memory, with ``leaving``, which will be free before long.
    ``candidates`` may be unloaded, the most dispensable first; they are asked for only when
    something does not fit, and no further than it takes. Nothing is unloaded in vain, a later one
    takes no room that is being made for an earlier one, and what can never fit is loaded, to be
    refused.
    """
    load: list[ServableId] = []
    unload: list[ServableId] = []
    victims: list[Share] = []
    others: Iterator[Share] | None = None
    later = used - leaving
    for wanted in waiting:
        if not wanted.amount.fits_in(limit):
            load.append(wanted.id)
            continue
        later += wanted.amount
        if not later.fits_in(limit):
            others = _of_use(candidates(), limit) if others is None else others
            chosen = _enough(victims, others, later, limit)
            del victims[: len(chosen)]
            unload += [victim.id for victim in chosen]
            for victim in chosen:
                later -= victim.amount
        if later.fits_in(limit) and (used + wanted.amount).fits_in(limit):
            used += wanted.amount
            load.append(wanted.id)
    return Plan(load, unload)


def _of_use(candidates: Iterable[Share], limit: ResourceAllocation) -> Iterator[Share]:
    """Those that hold something of what is scarce."""
    scarce = limit.quantities.keys()
    return (candidate for candidate in candidates if scarce & candidate.amount.quantities.keys())


def _enough(
    victims: list[Share],
    others: Iterator[Share],
    used: ResourceAllocation,
    limit: ResourceAllocation,
) -> Sequence[Share]:
    """The first victims without which ``used`` fits; none where all of them are too few.

    Takes ``others`` among the victims as long as these are too few.
    """
    for count in itertools.count(1):
        if count > len(victims):
            victims += itertools.islice(others, 1)
        if count > len(victims):
            break
        used -= victims[count - 1].amount
        if used.fits_in(limit):
            return victims[:count]
    return ()
