"""Operations from shared libraries. With ``scripts/test --slow`` one is compiled and served:

scripts/test --slow tests/loaders/test_tensorflow_custom_ops.py
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from serving.core.errors import InvalidArgument
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions

COMPILE_SECONDS = 900

OPERATION = """
#include "tensorflow/core/framework/op.h"
#include "tensorflow/core/framework/op_kernel.h"
#include "tensorflow/core/framework/shape_inference.h"

REGISTER_OP("AddSeven")
    .Input("x: float")
    .Output("y: float")
    .SetShapeFn([](tensorflow::shape_inference::InferenceContext* context) {
      context->set_output(0, context->input(0));
      return absl::OkStatus();
    });

class AddSeven : public tensorflow::OpKernel {
 public:
  using OpKernel::OpKernel;
  void Compute(tensorflow::OpKernelContext* context) override {
    tensorflow::Tensor* y = nullptr;
    const tensorflow::Tensor& x = context->input(0);
    OP_REQUIRES_OK(context, context->allocate_output(0, x.shape(), &y));
    y->flat<float>() = x.flat<float>() + 7.0f;
  }
};

REGISTER_KERNEL_BUILDER(Name("AddSeven").Device(tensorflow::DEVICE_CPU), AddSeven);
"""

EXPORT = """
import sys
import tensorflow as tf
operation = tf.load_op_library(sys.argv[1])
module = tf.Module()

@tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="x")])
def predict(x):
    return {"y": operation.add_seven(x)}

tf.saved_model.save(module, sys.argv[2], signatures=predict)
"""

SERVE = """
import sys
import numpy as np
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions
options = TensorFlowOptions(custom_op_libraries=tuple(sys.argv[2:]))
servable = TensorFlowPlatform(options).load(ServableId("m", 1), sys.argv[1])
signature = servable.signatures["serving_default"]
feeds = {signature.inputs["x"].name: np.float32([1])}
print(run_and_wait(servable, feeds, [signature.outputs["y"].name])[0].tolist())
"""


def refusal(path: Path) -> str:
    with pytest.raises(InvalidArgument) as raised:
        TensorFlowPlatform(TensorFlowOptions(custom_op_libraries=(str(path),)))
    return raised.value.message


def test_a_library_that_can_not_be_loaded_is_named(tmp_path: Path):
    (tmp_path / "noise.so").write_bytes(b"no library")
    for path in (tmp_path / "none.so", tmp_path / "noise.so"):
        assert refusal(path).startswith(f"custom_op_libraries: '{path}' can not be loaded: ")


def test_a_directory_stands_for_its_libraries(tmp_path: Path):
    assert refusal(tmp_path) == f"custom_op_libraries: there is no .so in '{tmp_path}'"
    (tmp_path / "b.so").write_bytes(b"no library")
    (tmp_path / "a.txt").write_bytes(b"no library")
    assert f"'{tmp_path}/b.so' can not be loaded" in refusal(tmp_path)


def program(text: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs in a process of its own: what is loaded stays loaded."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
@pytest.mark.timeout(COMPILE_SECONDS + 120)
@pytest.mark.skipif(not shutil.which("g++"), reason="there is no compiler")
def test_a_model_with_an_operation_of_its_own_is_served_where_its_library_is_loaded(
    tmp_path: Path,
):
    source, library = tmp_path / "add_seven.cc", tmp_path / "add_seven.so"
    source.write_text(OPERATION)
    compiler = ["g++", "-std=c++17", "-shared", "-fPIC", *tf.sysconfig.get_compile_flags()]
    compiler += [str(source), "-o", str(library), *tf.sysconfig.get_link_flags()]
    subprocess.run(compiler, check=True, timeout=COMPILE_SECONDS)
    assert program(EXPORT, library, tmp_path / "1").returncode == 0
    without = program(SERVE, tmp_path / "1")
    assert "AddSeven" in without.stderr
    assert without.returncode == 1
    for path in (library, tmp_path):
        assert program(SERVE, tmp_path / "1", path).stdout == "[8.0]\n"
