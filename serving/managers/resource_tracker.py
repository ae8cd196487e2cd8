"""Keeps the sum of what loaded versions hold below what there is."""

from __future__ import annotations

import threading
from collections.abc import Callable

from serving.core.errors import Cancelled, NoRoom, ResourceExhausted
from serving.core.resources import ResourceAllocation
from serving.core.servable_id import ServableId


class ResourceTracker:
    """Reserves resources for versions before they load, and takes them back after. Thread-safe.

    An over-bound: a reservation counts in full from before the load until after the unload.
    Resources that ``total`` does not name are unlimited.
    """

    def __init__(self, total: ResourceAllocation | None = None, *, waits: bool = True) -> None:
        """Unless it ``waits``, what does not fit now is refused now: somebody else makes room."""
        self._total = total or ResourceAllocation()
        self._waits = waits
        self._reserved: dict[ServableId, ResourceAllocation] = {}
        self._used = ResourceAllocation()
        self._changed = threading.Condition()
        self._loads_in_flight: set[ServableId] = set()
        self._unloads_in_flight: set[ServableId] = set()

    @property
    def used(self) -> ResourceAllocation:
        """The sum of all reservations."""
        with self._changed:
            return self._used

    @property
    def leaving(self) -> ResourceAllocation:
        """The part of it whose unload is on its way."""
        with self._changed:
            return sum(
                (self._held_by(servable_id) for servable_id in self._unloads_in_flight),
                ResourceAllocation(),
            )

    def held_by(self, servable_id: ServableId) -> ResourceAllocation:
        """What is reserved for this version."""
        with self._changed:
            return self._held_by(servable_id)

    def claim(self, servable_id: ServableId, estimate: ResourceAllocation) -> None:
        """Take what a load will reserve; the caller has seen to it that it fits."""
        with self._changed:
            self._hold(servable_id, estimate)

    def reserve(
        self,
        servable_id: ServableId,
        estimate: ResourceAllocation,
        is_cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        """Take what a load needs; blocks while another load or unload may yet free enough.

        What the version has claimed before counts as its own.
        Raises ResourceExhausted when it can never fit, NoRoom when it does not fit and nothing in
        flight is waited for, and Cancelled when ``is_cancelled``, asked again after
        :meth:`look_again`, says so.
        """
        with self._changed:
            while not (self._used - self._held_by(servable_id) + estimate).fits_in(self._total):
                if is_cancelled():
                    raise Cancelled(f"Servable {servable_id} is not to be loaded any more")
                hopeless = not estimate.fits_in(self._total)
                in_flight = self._loads_in_flight or self._unloads_in_flight
                if hopeless or not (self._waits and in_flight):
                    refusal = ResourceExhausted if hopeless else NoRoom
                    raise refusal(
                        f"Insufficient resources to load servable {servable_id}: "
                        f"needs {estimate}; in use {self._used}; limit {self._total}"
                    )
                self._changed.wait()
            self._hold(servable_id, estimate)
            self._loads_in_flight.add(servable_id)

    def look_again(self) -> None:
        """Have the loads that wait see whether they were cancelled."""
        with self._changed:
            self._changed.notify_all()

    def settle(self, servable_id: ServableId, estimate: ResourceAllocation) -> None:
        """The load is done: keep what the loader says it really holds."""
        with self._changed:
            self._hold(servable_id, estimate)
            self._loads_in_flight.discard(servable_id)
            self._changed.notify_all()

    def begin_unload(self, servable_id: ServableId) -> None:
        """An unload is on its way; loads that do not fit may wait for it."""
        with self._changed:
            self._unloads_in_flight.add(servable_id)

    def release(self, servable_id: ServableId) -> None:
        """The version holds nothing any more: unloaded, or its load failed."""
        with self._changed:
            self._used -= self._reserved.pop(servable_id, ResourceAllocation())
            self._loads_in_flight.discard(servable_id)
            self._unloads_in_flight.discard(servable_id)
            self._changed.notify_all()

    def _hold(self, servable_id: ServableId, amount: ResourceAllocation) -> None:
        before = self._held_by(servable_id)
        self._reserved[servable_id] = amount
        self._used = self._used - before + amount

    def _held_by(self, servable_id: ServableId) -> ResourceAllocation:
        return self._reserved.get(servable_id, ResourceAllocation())
