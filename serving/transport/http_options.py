"""Where REST is served, and by what."""

from __future__ import annotations

from dataclasses import dataclass

from serving.core.errors import InvalidArgument

HTTPTOOLS = "httptools"
HYPERCORN = "hypercorn"
ENGINES = (HTTPTOOLS, HYPERCORN)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where to listen. Without ``host``: on every address, IPv6 and IPv4. Port 0: any free one.

    ``shared``: further processes listen there too. ``receive_timeout_seconds`` is how long the head
    of a request may take (0: any time), and in each such time its body must bring
    ``min_body_bytes_per_second``, on average, until it is whole (0: it must not pause for so long).
    Raises InvalidArgument for an ``engine`` that there is not.
    """

    host: str = ""
    port: int = 8501
    shared: bool = False
    engine: str = HTTPTOOLS
    receive_timeout_seconds: float = 60
    min_body_bytes_per_second: int = 1024

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InvalidArgument(
                f"rest_engine must be one of {', '.join(ENGINES)}, not {self.engine!r}"
            )

    @property
    def min_body_bytes(self) -> float:
        """What a body must bring within ``receive_timeout_seconds``: something, if no more."""
        return max(1, self.min_body_bytes_per_second * self.receive_timeout_seconds)
