"""The lease on a loaded version: while it is held, the version is not unloaded."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from serving.core.servable import Servable
from serving.core.servable_id import ServableId


class ServableHandle:
    """Holds one version in place from look-up until :meth:`release`.

    Either a context manager (``with manager.servable(request) as handle``) or released by whoever
    completes the call. Releasing twice is harmless; any thread may release. Keep it short: an
    unload waits for its own version's handles.
    """

    __slots__ = ("_release", "id", "servable")

    def __init__(
        self,
        servable_id: ServableId,
        servable: Servable,
        release: Callable[[ServableHandle], None],
    ) -> None:
        self.id = servable_id
        self.servable = servable
        self._release = release

    def release(self) -> None:
        """Give the lease back."""
        self._release(self)

    def __enter__(self) -> ServableHandle:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._release(self)

    def __repr__(self) -> str:
        return f"<ServableHandle {self.id}>"
