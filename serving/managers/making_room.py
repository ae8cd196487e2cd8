"""Decides which versions leave so that others fit: a function of what waits and what is held."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    candidates: Callable[[], Sequence[Share]],
) -> Plan:
    """Serve those who wait, in their order.

    ``used`` counts everything in memory, with ``leaving``, which will be free before long.
    ``candidates`` may be unloaded, the most dispensable first; they are asked for only when
    something does not fit. Nothing is unloaded in vain, a later one takes no room that is being
    made for an earlier one, and what can never fit is loaded, to be refused.
    """
    load: list[ServableId] = []
    unload: list[ServableId] = []
    victims: list[Share] | None = None
    later = used - leaving
    for wanted in waiting:
        if not wanted.amount.fits_in(limit):
            load.append(wanted.id)
            continue
        later += wanted.amount
        if not later.fits_in(limit):
            victims = _of_use(candidates(), limit) if victims is None else victims
            chosen = _enough(victims, later, limit)
            victims = victims[len(chosen) :]
            unload += [victim.id for victim in chosen]
            for victim in chosen:
                later -= victim.amount
        if later.fits_in(limit) and (used + wanted.amount).fits_in(limit):
            used += wanted.amount
            load.append(wanted.id)
    return Plan(load, unload)


def _of_use(candidates: Sequence[Share], limit: ResourceAllocation) -> list[Share]:
    """Those that hold something of what is scarce."""
    scarce = limit.quantities.keys()
    return [candidate for candidate in candidates if scarce & candidate.amount.quantities.keys()]


def _enough(
    victims: Sequence[Share], used: ResourceAllocation, limit: ResourceAllocation
) -> Sequence[Share]:
    """The first victims without which ``used`` fits; none where all of them are too few."""
    for count, victim in enumerate(victims, 1):
        used -= victim.amount
        if used.fits_in(limit):
            return victims[:count]
    return ()
