"""What the supervisor and its workers say to each other.

The processes run the same program, so messages are dataclasses that travel pickled. One marked as
a question is asked with :meth:`Channel.ask`; the comment of its class says what answers it. A
:class:`ServingError` may answer any question.

A worker's life: Begin → (Heard …) → Ready, until it may open its ports → Opened → … → Leaving →
Left.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass

from serving.config.options import ServerOptions
from serving.core.errors import ServingError
from serving.core.model_config import ModelConfig
from serving.core.servable_state import ServableState
from serving.metrics.families import Snapshot


@dataclass(frozen=True, slots=True)
class Begin:
    """To a worker, first of all: serve this. ``options`` name ports, none of them 0.

    A replacement starts while others serve already.
    """

    options: ServerOptions
    configs: Sequence[ModelConfig]
    log_level: str
    is_replacement: bool


@dataclass(frozen=True, slots=True)
class Combined:
    """To the workers: where the versions of one model stand in all of them together.

    ``latest`` is the version for requests that name none; None: whichever a worker has.
    """

    name: str
    versions: Sequence[ServableState]
    latest: int | None


@dataclass(frozen=True, slots=True)
class Check:
    """A question to the workers: would this configuration be refused? Answered with None."""

    configs: Sequence[ModelConfig]


@dataclass(frozen=True, slots=True)
class Reload:
    """A question to a worker: serve this. Answered with None when the models are available.

    Of the errors, Unknown means that it is in force all the same.
    """

    configs: Sequence[ModelConfig]


@dataclass(frozen=True, slots=True)
class Settle:
    """A question to a worker, answered with None once all that was told before is known to it."""


@dataclass(frozen=True, slots=True)
class Count:
    """A question to a worker: what do its metrics hold? Answered with a Snapshot."""


@dataclass(frozen=True, slots=True)
class Ping:
    """A question to a worker that serves, answered with None by what serves its clients."""


@dataclass(frozen=True, slots=True)
class Heard:
    """From a worker: what its event bus said."""

    state: ServableState


@dataclass(frozen=True, slots=True)
class Ready:
    """A question from a worker whose models are loaded: may it open its ports?

    Answered with a Permission, or with a Reload to apply before it asks again.
    """


class Permission(enum.Enum):
    """Whether a worker may open its ports, or is to ask again."""

    OPEN = enum.auto()
    WAIT = enum.auto()


@dataclass(frozen=True, slots=True)
class Opened:
    """From a worker: its ports are open."""


@dataclass(frozen=True, slots=True)
class Failed:
    """A question from a worker that can not start and ends; answered with None."""

    error: ServingError


@dataclass(frozen=True, slots=True)
class Leaving:
    """From a worker: its ports are closed, its versions are about to be unloaded.

    ``counted`` is what of its metrics lasts.
    """

    counted: Snapshot


@dataclass(frozen=True, slots=True)
class Left:
    """A question from a worker that has unloaded everything and ends; answered with None.

    ``counted`` is what of its metrics lasts.
    """

    counted: Snapshot


@dataclass(frozen=True, slots=True)
class ReloadAll:
    """A question from a worker, as :class:`Reload`, to all workers."""

    configs: Sequence[ModelConfig]


@dataclass(frozen=True, slots=True)
class CountOthers:
    """A question from a worker, as :class:`Count`, to the others, also to those that are gone.

    Answered with their Snapshots. ``counted`` is what it holds itself.
    """

    counted: Snapshot
