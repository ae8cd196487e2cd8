"""What a server's versions go through, as its event bus tells it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from waiting import WAIT_SECONDS

from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.server_core import ServerCore


@contextmanager
def state_reached(
    served: ServerCore, servable_id: ServableId, state: ManagerState
) -> Iterator[list[ServableState]]:
    """Leaves the block only once the state was announced; yields what is announced meanwhile."""
    reached = threading.Event()
    heard: list[ServableState] = []

    def hear(event: ServableState) -> None:
        heard.append(event)
        if event.id == servable_id and event.state is state:
            reached.set()

    with served.bus.subscribe(hear):
        yield heard
        assert reached.wait(WAIT_SECONDS), f"{servable_id} did not reach {state.name}"
