"""A platform that files tell and one that the configuration names are the same model's."""

from __future__ import annotations

import pytest

from serving.config_check import check_configs
from serving.core.errors import InvalidArgument
from serving.core.model_config import ModelConfig
from serving.loaders.platforms import Platforms


def check(platform: str, in_force: str) -> None:
    served = {"m": ModelConfig("m", "/m", in_force)}
    check_configs([ModelConfig("m", "/m", platform)], served, Platforms({}))


@pytest.mark.parametrize(("platform", "in_force"), [("", "onnx"), ("onnx", ""), ("", "")])
def test_a_platform_may_be_named_or_left_to_the_files(platform: str, in_force: str):
    check(platform, in_force)


def test_a_named_platform_stays():
    with pytest.raises(InvalidArgument, match="Illegal to change a model's platform"):
        check("onnx", "hashmap")
