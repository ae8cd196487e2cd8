"""What some servables can do beyond their signatures: run any nodes of their graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from serving.core.servable import Outputs, Servable, instances_of


class NodesRun(NamedTuple):
    """One array for each fetch, in order, and what the engine tells of the run.

    ``metadata`` is a serialized tensorflow.RunMetadata.
    """

    outputs: Outputs
    metadata: bytes


class GraphSession(Protocol):
    """A graph whose tensors and operations can be named by clients. Thread-safe."""

    def run_nodes(
        self,
        feeds: Mapping[str, np.ndarray],
        fetches: Sequence[str],
        targets: Sequence[str],
        options: bytes,
    ) -> NodesRun:
        """Run what ``fetches`` (tensors) and ``targets`` (operations) need, and wait for it.

        ``options`` is a serialized tensorflow.RunOptions. Raises ServingErrors: InvalidArgument
        for a name that is not in the graph, and otherwise what the engine says.
        """


def graph_session_of(servable: Servable) -> GraphSession | None:
    """The session behind a servable, whatever is wrapped around it; None where there is none.

    Of several instances it is the first's: what clients change in it shall be there when they look.
    """
    session: GraphSession | None = getattr(instances_of(servable)[0], "graph_session", None)
    return session
