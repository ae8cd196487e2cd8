"""ONNX models: loaded from real files, run by the real runtime."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import onnx
import onnx_models as models
import pytest
from onnx_models import TensorProto, helper

from serving.core.cancellation import Cancellation
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import Cancelled, InvalidArgument, NotFound, ResourceExhausted
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    RunOptions,
    Servable,
    TensorInfo,
    may_run_long,
    run_and_wait,
)
from serving.core.servable_id import ServableId
from serving.loaders import onnx_graph
from serving.loaders.onnx_loader import OnnxPlatform
from serving.loaders.onnx_signature import _ELEMENT_TYPES

M1 = ServableId("m", 1)
STRINGS = np.array([b"", "ü".encode(), b"a\0b"], np.object_)


def load(path: Path) -> Servable:
    return OnnxPlatform().load(M1, str(path))


def run(servable: Servable, *fetches: str, **feeds: Any) -> list[Any]:
    return [output.tolist() for output in run_and_wait(servable, feeds, fetches)]


def refusal(servable: Servable, **feeds: Any) -> str:
    with pytest.raises(InvalidArgument) as raised:
        run_and_wait(servable, feeds, ["y"])
    return raised.value.message


def floats(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


@pytest.fixture(scope="module")
def half_plus_two(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    return load(models.half_plus_two(tmp_path_factory.mktemp("half_plus_two")))


def test_a_model_computes(half_plus_two: Servable):
    assert run(half_plus_two, "y", x=floats([1], [2], [5])) == [[[2.5], [3.0], [4.5]]]


def test_the_signature_is_the_models_inputs_and_outputs(half_plus_two: Servable):
    assert half_plus_two.signatures.keys() == {DEFAULT_SIGNATURE}
    signature = half_plus_two.signatures[DEFAULT_SIGNATURE]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, (None, 1))}
    assert signature.outputs == {"y": TensorInfo("y", DType.FLOAT, (None, 1))}
    assert signature.method_name == "tensorflow/serving/predict"


def test_a_shape_may_be_unknown_and_that_of_a_single_value_is_told_from_it(tmp_path: Path):
    """By the file: onnxruntime tells neither."""
    nodes = [helper.make_node("Add", ["x", "one"], ["y"])]
    inputs = [models.value("x", shape=None), models.value("one", shape=())]
    servable = load(models.save(tmp_path, nodes, inputs, [models.value("y", shape=None)]))
    signature = servable.signatures[DEFAULT_SIGNATURE]
    assert [info.shape for info in signature.inputs.values()] == [None, ()]
    assert [info.shape for info in signature.outputs.values()] == [None]
    assert run(servable, "y", x=floats([1, 2]), one=floats(1).reshape(())) == [[[2, 3]]]
    assert run(servable, "y", x=floats(1).reshape(()), one=floats(1).reshape(())) == [2]
    assert "one" in refusal(servable, x=floats(1, 2), one=floats(1))


def test_an_output_may_be_a_single_value(tmp_path: Path):
    nodes = [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)]
    servable = load(
        models.save(tmp_path, nodes, [models.value("x")], [models.value("y", shape=())])
    )
    assert servable.signatures[DEFAULT_SIGNATURE].outputs["y"].shape == ()
    assert run(servable, "y", x=floats(1, 2)) == [3]


@pytest.mark.parametrize("content", [b"", b"\x3a\x7f", b"\x3b", b"\x3a\x05\x5a\x03\x0a\x01\xff"])
def test_what_does_not_read_as_a_model_tells_of_no_single_values(tmp_path: Path, content: bytes):
    (tmp_path / "model.onnx").write_bytes(content)
    assert onnx_graph.scalars(tmp_path / "model.onnx") == frozenset()


def values_of(dtype: DType) -> np.ndarray:
    if dtype is DType.STRING:
        return STRINGS
    return np.array([0, 1, 2]).astype(numpy_dtype(dtype))


@pytest.mark.parametrize("dtype", _ELEMENT_TYPES.values(), ids=lambda dtype: dtype.label)
def test_every_element_type_goes_in_and_comes_out(tmp_path: Path, dtype: DType):
    onnx_type = {DType.HALF: TensorProto.FLOAT16}.get(dtype) or TensorProto.DataType.Value(
        dtype.name
    )
    servable = load(models.identity(tmp_path, onnx_type))
    (output,) = run_and_wait(servable, {"x": values_of(dtype)}, ["y"])
    assert output.dtype == numpy_dtype(dtype)
    assert output.tolist() == values_of(dtype).tolist()


def test_a_type_that_does_not_travel_is_refused_at_the_load(tmp_path: Path):
    models.identity(tmp_path, TensorProto.BFLOAT16)
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path)
    assert raised.value.message == "input 'x' is tensor(bfloat16), which is not supported"


def test_an_output_that_is_no_tensor_is_refused_at_the_load(tmp_path: Path):
    nodes = [helper.make_node("SequenceConstruct", ["x"], ["y"])]
    sequence = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    models.save(tmp_path, nodes, [models.value("x")], [sequence])
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path)
    assert raised.value.message == "output 'y' is seq(tensor(float)), which is not supported"


def test_outputs_come_in_the_order_asked_for(tmp_path: Path):
    nodes = [helper.make_node("Split", ["x"], ["a", "b"], num_outputs=2)]
    outputs = [models.value("a"), models.value("b")]
    servable = load(models.save(tmp_path, nodes, [models.value("x")], outputs))
    assert run(servable, "b", "a", x=floats(1, 2)) == [[2], [1]]
    assert run(servable, "b", x=floats(1, 2)) == [[2]]


@pytest.mark.parametrize("offset", [1, 2, 4])
def test_unaligned_inputs_arrive_unchanged(half_plus_two: Servable, offset: int):
    values = floats(*([number] for number in range(1000)))
    unaligned = np.ndarray(values.shape, values.dtype, bytes(offset) + values.tobytes(), offset)
    assert run(half_plus_two, "y", x=unaligned) == [(values / 2 + 2).tolist()]


@pytest.mark.parametrize(
    ("feeds", "text"),
    [
        ({"x": np.ones((1, 1))}, "input 'x' must be float, not double"),
        ({"x": np.array([[b"1"]], np.object_)}, "input 'x' must be float, not string"),
        ({"x": floats(1, 2)}, "input 'x' must have the shape [?,1], not [2]"),
        ({"x": floats([1, 2])}, "input 'x' must have the shape [?,1], not [1,2]"),
        ({}, "the model's inputs are x, not "),
        ({"z": floats([1])}, "the model's inputs are x, not z"),
        ({"x": floats([1]), "z": floats([1])}, "the model's inputs are x, not x, z"),
    ],
)
def test_a_wrong_input_is_named_with_what_is_expected(
    half_plus_two: Servable, feeds: Mapping[str, np.ndarray], text: str
):
    assert refusal(half_plus_two, **feeds) == text


def test_strings_must_be_utf_8(tmp_path: Path):
    servable = load(models.identity(tmp_path, TensorProto.STRING))
    assert refusal(servable, x=np.array([b"\xff"], np.object_)) == "input 'x' must be UTF-8"


def test_what_an_operation_refuses_is_the_requests_fault_in_its_own_words(tmp_path: Path):
    """Without the places in onnxruntime's program that it puts into its texts."""
    nodes = [helper.make_node("Add", ["x", "z"], ["y"])]
    inputs = [models.value("x", shape=("n",)), models.value("z", shape=("m",))]
    servable = load(models.save(tmp_path, nodes, inputs, [models.value("y", shape=None)]))
    text = refusal(servable, x=floats(1, 2), z=floats(1, 2, 3))
    assert text.startswith("Non-zero status code returned while running Add node.")
    assert text.endswith("Attempting to broadcast an axis by a dimension other than 1. 2 by 3")
    assert "/" not in text
    assert "ONNXRuntimeError" not in text


def test_an_output_that_memory_does_not_hold_exhausts_resources(tmp_path: Path):
    nodes = [helper.make_node("Expand", ["x", "shape"], ["y"])]
    inputs = [models.value("x"), models.value("shape", TensorProto.INT64)]
    servable = load(models.save(tmp_path, nodes, inputs, [models.value("y", shape=None)]))
    with pytest.raises(ResourceExhausted, match="Failed to allocate memory"):
        run_and_wait(servable, {"x": floats(1), "shape": np.array([1 << 45])}, ["y"])


def test_a_cancellation_ends_a_run(tmp_path: Path):
    """Whether it comes before the run or while it goes on."""
    servable = load(models.endless(tmp_path))
    cancellation = Cancellation()
    runs: SimpleQueue[object] = SimpleQueue()
    feeds, options = {"x": floats(1)}, RunOptions(cancellation=cancellation)
    run_once = partial(servable.run, feeds, ["y"], options, runs.put)
    running = threading.Thread(target=run_once)
    running.start()
    while not cancellation._waiting():  # until the run has begun
        pass
    cancellation.cancel()
    running.join()
    run_once()
    assert [(type(error), error.message) for error in (runs.get(), runs.get())] == [
        (Cancelled, "the run was cancelled")
    ] * 2


def test_nothing_of_a_run_that_has_ended_waits_for_a_cancellation(half_plus_two: Servable):
    cancellation = Cancellation()
    run_and_wait(half_plus_two, {"x": floats([1])}, ["y"], RunOptions(cancellation=cancellation))
    assert cancellation._waiting() == ()


def test_the_one_onnx_file_may_have_any_name(tmp_path: Path):
    models.half_plus_two(tmp_path, file="half.onnx")
    (tmp_path / "README.md").touch()
    assert run(load(tmp_path), "y", x=floats([2])) == [[[3]]]


def test_model_onnx_is_taken_among_others(tmp_path: Path):
    models.half_plus_two(tmp_path)
    (tmp_path / "another.onnx").write_bytes(b"not a model")
    assert run(load(tmp_path), "y", x=floats([2])) == [[[3]]]


@pytest.mark.parametrize("files", [[], ["a.onnx", "b.onnx"]])
def test_it_must_be_clear_which_file_is_the_model(tmp_path: Path, files: list[str]):
    for file in files:
        (tmp_path / file).touch()
    for attempt in (load, lambda path: OnnxPlatform().estimate(str(path))):
        with pytest.raises(NotFound) as raised:
            attempt(tmp_path)
        assert raised.value.message == (
            "a version is one model.onnx, or one .onnx file of another name, "
            f"but there are {len(files)}"
        )


def test_weights_may_lie_in_files_of_their_own_and_count_in_the_estimate(tmp_path: Path):
    models.half_plus_two(tmp_path, weights_file="weights.bin")
    assert run(load(tmp_path), "y", x=floats([2])) == [[[3]]]
    before = OnnxPlatform().estimate(str(tmp_path))
    size_bytes = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert before == before.ram(int(2.5 * size_bytes))
    with (tmp_path / "weights.bin").open("ab") as weights:
        weights.write(bytes(1000))
    assert OnnxPlatform().estimate(str(tmp_path)) == before + before.ram(2500)


BROKEN = {
    "no model": lambda path: (path / "model.onnx").write_bytes(b"hello"),
    "empty": lambda path: (path / "model.onnx").write_bytes(b""),
    "too new": lambda path: models.half_plus_two(path, ir_version=99),
    "without its weights": lambda path: (
        models.half_plus_two(path, weights_file="weights.bin") / "weights.bin"
    ).unlink(),
    "a directory": lambda path: (path / "model.onnx").mkdir(),
    "unknown operation": lambda path: models.save(
        path, [helper.make_node("Nope", ["x"], ["y"])], [models.value("x")], [models.value("y")]
    ),
    "a circle": lambda path: (path / "model.onnx").symlink_to("model.onnx"),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_bad_file_is_refused_without_the_servers_paths(tmp_path: Path, broken: str):
    BROKEN[broken](tmp_path)
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path)
    assert raised.value.message.startswith("the ONNX model can not be loaded: ")
    assert str(tmp_path) not in raised.value.message
    assert "/onnxruntime_src/" not in raised.value.message


def test_the_path_behind_a_link_is_not_told_either(tmp_path: Path):
    BROKEN["without its weights"](tmp_path / "real")
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(InvalidArgument) as raised:
        load(tmp_path / "link")
    assert str(tmp_path) not in raised.value.message


def test_a_version_that_can_not_be_looked_at_says_why(tmp_path: Path):
    (tmp_path / "1").symlink_to("1")
    for attempt in (load, lambda path: OnnxPlatform().estimate(str(path))):
        with pytest.raises(InvalidArgument) as raised:
            attempt(tmp_path / "1")
        assert raised.value.message == (
            "the model can not be read: Too many levels of symbolic links"
        )


def test_after_close_the_memory_is_free(tmp_path: Path):
    servable = load(models.half_plus_two(tmp_path))
    session = servable._session
    held = sys.getrefcount(session)
    servable.close()
    assert sys.getrefcount(session) == held - 1


@pytest.mark.parametrize(
    ("exporter", "expected"),
    [
        (models.endless, True),
        (models.loop_in_a_branch, True),
        (models.branches, False),
        (models.half_plus_two, False),
    ],
)
def test_a_model_with_loops_may_run_long(tmp_path: Path, exporter: Any, expected: bool):
    """Wherever in the graph they are: how often they go round, requests may say."""
    assert may_run_long(load(exporter(tmp_path))) is expected


def test_a_loop_in_a_function_of_the_model_counts(tmp_path: Path):
    loop = helper.make_node("Loop", ["n", "", "v"], ["w"], body=models.loop_body())
    imports = [helper.make_opsetid("", models.OPSET), helper.make_opsetid("own", 1)]
    function = helper.make_function("own", "Round", ["n", "v"], ["w"], [loop], imports)
    node = helper.make_node("Round", ["rounds", "x"], ["y"], domain="own")
    inputs = [models.value("rounds", TensorProto.INT64, ()), models.value("x")]
    graph = helper.make_graph([node], "graph", inputs, [models.value("y")])
    model = helper.make_model(graph, opset_imports=imports, functions=[function])
    model.ir_version = models.IR_VERSION
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert may_run_long(load(tmp_path))


@pytest.mark.parametrize("content", [b"\xff" * 20, b"\x3c", b"\x3a\x80"])
def test_what_does_not_read_as_a_model_may_run_long(tmp_path: Path, content: bytes):
    (tmp_path / "model.onnx").write_bytes(content)
    assert onnx_graph.may_run_long(tmp_path / "model.onnx")


def grouped(group: int, *, in_a_function: bool = False) -> Any:
    """A transposed convolution of an image of any shape, as which ONNX does not check groups."""
    names = ["x", "w"]
    value = partial(helper.make_tensor_value_info, elem_type=TensorProto.FLOAT)
    inputs = [value(name, shape=None) for name in names]
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("own", 1)]
    node = helper.make_node("ConvTranspose", names, ["y"], kernel_shape=[2, 2])
    called = node if not in_a_function else helper.make_node("Own", names, ["y"], domain="own")
    called.attribute.append(helper.make_attribute("of_it" if in_a_function else "group", group))
    functions = []
    if in_a_function:
        node.attribute.append(
            onnx.AttributeProto(name="group", type=onnx.AttributeProto.INT, ref_attr_name="of_it")
        )
        functions = [
            helper.make_function("own", "Own", names, ["y"], [node], opsets[:1], ["of_it"])
        ]
    graph = helper.make_graph([called], "grouped", inputs, [value("y", shape=None)])
    model = helper.make_model(graph, opset_imports=opsets, functions=functions)
    model.ir_version = 8
    return model


@pytest.mark.parametrize("in_a_function", [False, True])
@pytest.mark.parametrize("group", [0, -1])
def test_what_onnxruntime_would_divide_by_is_refused(
    tmp_path: Path, group: int, in_a_function: bool
):
    """Zero ended the process, before there was a session."""
    model = grouped(group, in_a_function=in_a_function)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InvalidArgument, match=f"can not be in {group} groups"):
        onnx_graph.check_groups(tmp_path / "model.onnx")
    with pytest.raises(InvalidArgument, match=f"can not be in {group} groups"):
        load(tmp_path)


@pytest.mark.parametrize("in_a_function", [False, True])
def test_an_operation_may_be_in_groups(tmp_path: Path, in_a_function: bool):
    model = grouped(2, in_a_function=in_a_function)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    image, weight = np.ones((1, 2, 1, 1), np.float32), np.ones((2, 1, 2, 2), np.float32)
    np.testing.assert_array_equal(
        run(load(tmp_path), "y", x=image, w=weight)[0], np.ones((1, 2, 2, 2))
    )


def test_a_group_behind_an_unknown_kind_of_field_is_refused(tmp_path: Path):
    """Where the walk over the file can not go on, nothing is taken on trust."""
    end_group, begin_group = b"\xa4\x06", b"\xa3\x06"
    content = begin_group + end_group + grouped(0).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(content)
    with pytest.raises(InvalidArgument, match="it is damaged"):
        load(tmp_path)
