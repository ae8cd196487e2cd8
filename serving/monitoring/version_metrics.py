"""Counts and times loads and unloads, and tells where versions stand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from serving.core.clock import Clock
from serving.core.errors import Code
from serving.core.servable_id import ServableId
from serving.core.servable_state import ManagerState, ServableState
from serving.metrics.families import Cells, Description, Kind, Together
from serving.metrics.registry import Metrics
from serving.monitoring.bounds import LOAD_SECONDS

_STATE = Description(
    "model_server_version_state",
    "Processes in which a version is in this state; FAILED is the END of one that has an error.",
    Kind.GAUGE,
    ("model_name", "version", "state"),
)
_INFO = Description(
    "model_server_version_info",
    "1, for each version that is loaded; mlmd_uuid is what its assets.extra/mlmd_uuid holds.",
    Kind.GAUGE,
    ("model_name", "version", "platform", "mlmd_uuid"),
    together=Together.MAX,
)
_MLMD_UUID = Path("assets.extra", "mlmd_uuid")
_LONGEST_UUID = 256
_FAILED = "FAILED"
_MOST_FAILED = 100


class _Heard(NamedTuple):
    state: str
    since: float


class VersionMetrics:
    """A listener of the event bus. Thread-safe.

    A load is the time from LOADING to AVAILABLE or to the END with an error, with all its attempts.
    A version that has ended is forgotten; of those that failed the last 100 are shown, each until
    it is not wanted any more.
    """

    def __init__(
        self, metrics: Metrics, clock: Clock, aspires_to: Callable[[ServableId], bool]
    ) -> None:
        """``aspires_to``: whether a version that failed is to be served."""
        self._clock = clock
        self._aspires_to = aspires_to
        self._lock = threading.Lock()
        self._versions: dict[ServableId, _Heard] = {}
        self._infos: dict[ServableId, tuple[str, str]] = {}
        self._loads = metrics.histogram(
            "model_server_load_duration_seconds",
            "Loads of versions by how they ended, with all their attempts.",
            ("model_name", "code"),
            LOAD_SECONDS,
        )
        self._unloads = metrics.histogram(
            "model_server_unload_duration_seconds",
            "Unloads of versions, with the wait for their last requests.",
            ("model_name",),
            LOAD_SECONDS,
        )
        metrics.sampled([_STATE, _INFO], self._sample)

    def loaded(self, servable_id: ServableId, path: str, platform: str) -> None:
        """The version in this directory is about to be available."""
        uuid = _mlmd_uuid(path)
        with self._lock:
            self._infos[servable_id] = (platform, uuid)

    def hear(self, event: ServableState) -> None:
        """What the event bus says."""
        now = self._clock.monotonic()
        with self._lock:
            before = self._versions.pop(event.id, None)
            if event.state is ManagerState.END:
                self._infos.pop(event.id, None)
            if event.state is not ManagerState.END:
                self._versions[event.id] = _Heard(event.state.name, now)
            elif event.error:
                self._versions[event.id] = _Heard(_FAILED, now)
                self._forget_first_failed()
        if before is not None:
            self._count(event, before, now)

    def is_here(self, servable_id: ServableId) -> bool:
        """Whether this process has the version, or is about to."""
        with self._lock:
            heard = self._versions.get(servable_id)
        return heard is not None and heard.state != _FAILED

    def _count(self, event: ServableState, before: _Heard, now: float) -> None:
        took = now - before.since
        code = event.error.code if event.error else Code.OK
        if before.state == ManagerState.LOADING.name and event.state in (
            ManagerState.AVAILABLE,
            ManagerState.END,
        ):
            self._loads.observe(took, event.id.name, code.name)
        elif before.state == ManagerState.UNLOADING.name and event.state is ManagerState.END:
            self._unloads.observe(took, event.id.name)

    def _forget_first_failed(self) -> None:
        failed = [each for each, heard in self._versions.items() if heard.state == _FAILED]
        if len(failed) > _MOST_FAILED:
            del self._versions[failed[0]]

    def _forget_unwanted(self) -> None:
        with self._lock:
            failed = [each for each, heard in self._versions.items() if heard.state == _FAILED]
        unwanted = [each for each in failed if not self._aspires_to(each)]
        with self._lock:
            for each in unwanted:
                heard = self._versions.get(each)
                if heard is not None and heard.state == _FAILED:
                    del self._versions[each]

    def _sample(self) -> dict[str, Cells]:
        self._forget_unwanted()
        with self._lock:
            states = [(each, heard.state) for each, heard in self._versions.items()]
            infos = list(self._infos.items())
        return {
            _STATE.name: {(each.name, str(each.version), state): 1 for each, state in states},
            _INFO.name: {(each.name, str(each.version), *info): 1 for each, info in infos},
        }


def _mlmd_uuid(path: str) -> str:
    """Which entry of ML Metadata the version is, as TensorFlow Serving finds it; empty without."""
    try:
        with (Path(path) / _MLMD_UUID).open(encoding="utf-8") as file:
            return file.read(_LONGEST_UUID).strip()
    except (OSError, UnicodeDecodeError):
        return ""
