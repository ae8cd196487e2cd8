"""What tests of every part share: real models, exported once a session, and threads that race.

The exporters are in exported_models.py, which imports TensorFlow: import it in the tests that
need it, as ``from exported_models import half_plus_two``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, and nothing of what is tested.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``exported(half_plus_two)`` is a version directory; its parent is the model's base path.

    The directories are shared by all tests of the session: copy before you change one. Keyword
    arguments go to the exporter, and each combination has a base path of its own.
    """
    bases: dict[tuple[str, tuple[tuple[str, object], ...]], Path] = {}

    def export(exporter: Callable[..., None], version: int = 1, **arguments: object) -> Path:
        key = (f"{exporter.__module__}.{exporter.__name__}", tuple(sorted(arguments.items())))
        if key not in bases:
            bases[key] = tmp_path_factory.mktemp(exporter.__name__)
        directory = bases[key] / str(version)
        if not directory.exists():
            exporter(directory, **arguments)
        return directory

    return export


@pytest.fixture
def threads_that_take_turns_often() -> Iterator[None]:
    """Threads race at many more places than they usually would."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(usual)
