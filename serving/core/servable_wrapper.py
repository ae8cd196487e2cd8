"""What is put around a servable, to run it in another way or to watch its runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from serving.core.servable import Servable, Signature, instances_of


class ServableWrapper:
    """A Servable around another, all but :meth:`run`; whatever that one can do is found behind it.

    For what a servable can do beyond a Servable is asked of its ``instances``, by the functions of
    :mod:`serving.core.servable` and :mod:`serving.core.graph_session`.
    """

    def __init__(self, servable: Servable) -> None:
        self._servable = servable

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self._servable.signatures

    @property
    def instances(self) -> Sequence[Servable]:
        """Those of the wrapped servable."""
        return instances_of(self._servable)

    def close(self) -> None:
        self._servable.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__.lstrip('_')} of {self._servable!r}>"
