"""Where REST is served, and by what."""

from __future__ import annotations

from dataclasses import dataclass

from serving.core.errors import InvalidArgument

UVICORN = "uvicorn"
HYPERCORN = "hypercorn"
ENGINES = (UVICORN, HYPERCORN)


@dataclass(frozen=True, slots=True)
class HttpOptions:
    """Where to listen. Without ``host``: on every address, IPv6 and IPv4. Port 0: any free one.

    ``shared``: further processes listen there too. Raises InvalidArgument for an ``engine`` that
    there is not.
    """

    host: str = ""
    port: int = 8501
    shared: bool = False
    engine: str = UVICORN

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InvalidArgument(
                f"rest_engine must be one of {', '.join(ENGINES)}, not {self.engine!r}"
            )
