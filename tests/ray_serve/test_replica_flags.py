"""A replica is told the program's flags, but for those that are Ray's to say."""

from __future__ import annotations

import pytest

from serving.config.flags import FLAGS
from serving.core.errors import InvalidArgument
from serving.ray_serve.replica_flags import OF_RAY, replica_command_line


def test_flags_read_as_on_a_command_line():
    line = replica_command_line(
        {"model_name": "m", "enable_batching": True, "num_load_threads": 2, "access_log": "a=b"}
    )
    assert line["model_name"] == "m"
    assert line["enable_batching"] is True
    assert line["num_load_threads"] == 2
    assert line["access_log"] == "a=b"
    assert line["enable_profiler"] is False


@pytest.mark.parametrize("name", sorted(OF_RAY))
def test_flags_that_would_do_nothing_are_refused(name: str):
    with pytest.raises(InvalidArgument, match=f"--{name} cannot be given to a replica"):
        replica_command_line({name: FLAGS[name].default})


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        ({"model_nam": "m"}, "unknown argument: --model_nam=m"),
        ({"help": True}, "unknown argument: --help=true"),
        ({"num_load_threads": "two"}, "Couldn't interpret value two for flag num_load_threads"),
        ({"model_name": ["m"]}, r"Couldn't interpret value \['m'\] for flag model_name"),
        ({"model_name": None}, "Couldn't interpret value None for flag model_name"),
    ],
)
def test_flags_that_cannot_be_read_are_named(flags: dict[str, object], text: str):
    with pytest.raises(InvalidArgument, match=text):
        replica_command_line(flags)
