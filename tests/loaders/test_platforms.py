"""Platforms are named in one table and imported when first needed."""

import subprocess
import sys

import pytest

from serving.core.errors import InvalidArgument
from serving.loaders.platforms import PLATFORMS, Platforms


def test_an_unknown_platform_is_refused_with_those_there_are() -> None:
    with pytest.raises(InvalidArgument) as raised:
        Platforms({}).get("caffe")
    assert raised.value.message == (
        "there is no platform 'caffe'; there are: hashmap, onnx, tensorflow"
    )


def test_a_platform_is_made_once() -> None:
    platforms = Platforms({})
    assert platforms.get("hashmap") is platforms.get("hashmap")
    assert "hashmap" in platforms
    assert "caffe" not in platforms


def test_no_framework_is_imported_before_its_platform_is_asked_for() -> None:
    program = (
        "import sys; from serving.loaders.platforms import Platforms; "
        "Platforms({}).get('hashmap'); import serving.server_core; "
        "print('tensorflow' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "False"


def test_every_row_of_the_table_names_a_class() -> None:
    for name in PLATFORMS:
        assert PLATFORMS[name].count(":") == 1


def test_without_its_library_a_platform_names_the_extra() -> None:
    program = (
        "import sys; sys.modules['onnxruntime'] = None\n"
        "from serving.loaders.platforms import Platforms\n"
        "try: Platforms({}).get('onnx')\n"
        "except Exception as error: print(error)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ran.stdout == (
        "FAILED_PRECONDITION: platform 'onnx' needs onnxruntime, which is not installed: "
        "pip install 'model-server[onnx]'\n"
    )
