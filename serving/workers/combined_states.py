"""Where a version stands in several processes together: a pure function of where it stands in each.

A version is available when every process can be asked for it, and has failed when it failed in
any. Anything in between is LOADING on the way up and UNLOADING on the way down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from serving.core.servable_state import ManagerState, ServableState

Combine = Callable[[Sequence[ServableState | None], ManagerState | None], ServableState]
"""Takes the state of one version in each process, None where nothing is known of it (known to one
at least), and the combined state as it was before, None at first.
"""

_ENDED = (None, ManagerState.END)
_WAS_AVAILABLE = (ManagerState.AVAILABLE, ManagerState.UNLOADING)


def combine(states: Sequence[ServableState | None], before: ManagerState | None) -> ServableState:
    """Of processes that all load the versions they are to serve."""
    known = [state for state in states if state]
    for state in known:
        if state.error:
            return state
    found = {state.state if state else None for state in states}
    return ServableState(known[0].id, _common(found, before))


def _common(found: set[ManagerState | None], before: ManagerState | None) -> ManagerState:
    living = found.difference(_ENDED)
    if not living:
        return ManagerState.END
    if found == {ManagerState.AVAILABLE}:
        return ManagerState.AVAILABLE
    if ManagerState.UNLOADING in living or before in _WAS_AVAILABLE:
        return ManagerState.UNLOADING
    return ManagerState.START if living == {ManagerState.START} else ManagerState.LOADING


_FURTHEST = (
    ManagerState.END,
    ManagerState.UNLOADING,
    ManagerState.START,
    ManagerState.LOADING,
    ManagerState.AVAILABLE,
)


def combine_furthest(
    states: Sequence[ServableState | None],
    before: ManagerState | None,  # noqa: ARG001  # a Combine
) -> ServableState:
    """Of processes that load on the first request: any can be asked for what one has loaded."""
    known = [state for state in states if state]
    return max(known, key=lambda state: (_FURTHEST.index(state.state), state.error is not None))
