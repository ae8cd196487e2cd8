"""A version that loads on its first request, and the look-ups that wait for it."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from serving.core.loader import Loader
from serving.core.models import Leased
from serving.core.resources import ResourceAllocation
from serving.core.servable_data import ServableData
from serving.core.servable_id import ServableId, ServableRequest
from serving.managers.deadlines import Deadline


class Phase(enum.Enum):
    """Where a version stands; without a limit to memory none is estimated."""

    UNLOADED = enum.auto()
    ESTIMATING = enum.auto()
    QUEUED = enum.auto()
    LOADING = enum.auto()
    LOADED = enum.auto()
    UNLOADING = enum.auto()
    GONE = enum.auto()


class CachedVersion:
    """A version that is offered, or that was and is not out of memory yet.

    All but ``used`` is read and changed under the lock of the manager.
    """

    __slots__ = (
        "data",
        "failed",
        "id",
        "needs",
        "new_estimates",
        "offered",
        "phase",
        "request",
        "used",
        "waiting",
        "withdrawn",
    )

    def __init__(self, data: ServableData[Loader]) -> None:
        self.id = data.id
        self.request = ServableRequest(*data.id)
        self.data = data
        self.used = -1
        self.offered = True
        self.withdrawn = False  # while it loaded, so that the load was cancelled
        self.failed = False
        self.phase = Phase.UNLOADED
        self.needs = ResourceAllocation()
        self.new_estimates = 0
        self.waiting: dict[WaitingLookUp, None] = {}

    def take_waiting(self) -> Sequence[WaitingLookUp]:
        """The look-ups that wait for it, which from now on do not; each is to be answered."""
        taken = list(self.waiting)
        self.waiting.clear()
        for waiting in taken:
            waiting.version = None
        return taken


class WaitingLookUp:
    """A look-up without an answer, and the version it waits for."""

    __slots__ = ("deadline", "id", "leased", "request", "version")

    def __init__(self, request: ServableRequest, leased: Leased) -> None:
        self.request = request
        self.id = ServableId(request.name, request.version or 0)  # until one is found
        self.leased = leased
        self.deadline: Deadline | None = None
        self.version: CachedVersion | None = None
