"""PyTorch models: loaded from real files, run by the real framework."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_models as models  # skips where PyTorch is not installed

from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import FailedPrecondition, InvalidArgument, NotFound
from serving.core.servable import (
    DEFAULT_SIGNATURE,
    InputBuffers,
    Servable,
    Signature,
    TensorInfo,
    may_run_long,
    run_and_wait,
)
from serving.core.servable_id import ServableId
from serving.loaders.device import Device
from serving.loaders.pytorch_loader import PyTorchPlatform
from serving.loaders.pytorch_tensors import ELEMENT_TYPES

torch = models.torch
M1 = ServableId("m", 1)
ROWS = np.arange(3, dtype=np.float32)


def load(file: Path, device: Device | None = None) -> Servable:
    return PyTorchPlatform().load(M1, str(file.parent), device)


def signature(servable: Servable) -> Signature:
    return servable.signatures[DEFAULT_SIGNATURE]


def refusal(file: Path) -> str:
    with pytest.raises(InvalidArgument) as raised:
        load(file)
    return raised.value.message


@pytest.fixture(scope="module")
def tower(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    file = tmp_path_factory.mktemp("tower") / "model.pt2"
    return load(models.export(file, models.Tower(), models.tensors(models.TOWER_INPUTS)))


@pytest.fixture(scope="module")
def same(tmp_path_factory: pytest.TempPathFactory) -> Servable:
    """A TorchScript model that says nothing of its types."""
    return load(models.script(tmp_path_factory.mktemp("same") / "model.pt", models.Same()))


def test_an_exported_program_says_what_it_takes_and_gives(tower: Servable):
    assert signature(tower).inputs == {
        "x": TensorInfo("x", DType.FLOAT, (None, 4)),
        "ids": TensorInfo("ids", DType.INT64, (None,)),
    }
    assert signature(tower).outputs == {
        "scores": TensorInfo("scores", DType.FLOAT, (None, 3)),
        "twice": TensorInfo("twice", DType.INT64, (None,)),
        "even": TensorInfo("even", DType.BOOL, (None,)),
    }


def test_it_computes_what_pytorch_computes_in_the_order_asked_for(tower: Servable):
    expected = models.own_outputs(models.Tower(), models.TOWER_INPUTS)
    even, scores = run_and_wait(tower, models.TOWER_INPUTS, ["even", "scores"])
    np.testing.assert_array_equal(even, expected["even"])
    np.testing.assert_allclose(scores, expected["scores"], 1e-6)
    assert not scores.flags.writeable


@pytest.mark.parametrize("rows", [0, 1, 64])
def test_a_batch_may_have_any_size_that_it_was_exported_for(tower: Servable, rows: int):
    feeds = {"x": np.ones((rows, 4), np.float32), "ids": np.ones(rows, np.int64)}
    (scores,) = run_and_wait(tower, feeds, ["scores"])
    assert scores.shape == (rows, 3)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"x": np.ones((2, 4))}, "input 'x' must be float, not double"),
        ({"ids": np.ones(2, np.int32)}, "input 'ids' must be int64, not int32"),
        ({"x": np.ones((2, 3), np.float32)}, "input 'x' must have the shape [?,4], not [2,3]"),
        (
            {"ids": np.ones(3, np.int64)},
            "dimension 0 of input 'ids' must be as dimension 0 of input 'x', which is 2, but is 3",
        ),
        (
            {"x": np.ones((65, 4), np.float32), "ids": np.ones(65, np.int64)},
            "dimension 0 of input 'x' must be between 0 and 64, but is 65",
        ),
        ({"z": ROWS}, "the model's inputs are x, ids, not x, ids, z"),
    ],
)
def test_a_wrong_input_is_named_with_what_is_expected(
    tower: Servable, changed: Mapping[str, np.ndarray], text: str
):
    with pytest.raises(InvalidArgument) as raised:
        run_and_wait(tower, {**models.TOWER_INPUTS, **changed}, ["scores"])
    assert raised.value.message == text


def test_what_torchscript_does_not_say_is_unknown(same: Servable):
    """Nor is it held against requests: the values say their own type."""
    assert signature(same).inputs == {"x": TensorInfo("x", DType.INVALID, None)}
    assert signature(same).outputs == {"output_0": TensorInfo("output_0", DType.INVALID, None)}


@pytest.mark.parametrize("dtype", ELEMENT_TYPES.values(), ids=lambda dtype: dtype.label)
@pytest.mark.parametrize("shape", [(2, 2), ()], ids=str)
def test_every_element_type_goes_in_and_comes_out(
    same: Servable, dtype: DType, shape: tuple[int, ...]
):
    values = np.resize(np.array([0, 1, 1, 0]), shape).astype(numpy_dtype(dtype))
    (output,) = run_and_wait(same, {"x": values}, ["output_0"])
    assert output.dtype == numpy_dtype(dtype)
    assert (output.shape, output.tolist()) == (shape, values.tolist())


@pytest.mark.parametrize(
    "values", [np.ones(2, np.complex64), np.array([b"text"], np.object_)], ids=["complex", "text"]
)
def test_a_type_that_does_not_travel_is_refused(same: Servable, values: np.ndarray):
    with pytest.raises(InvalidArgument, match="PyTorch has no tensors of numpy's type"):
        run_and_wait(same, {"x": values}, ["output_0"])


def test_complex_numbers_are_refused_at_the_load_where_the_file_says_so(tmp_path: Path):
    inputs = {"x": torch.ones(3, dtype=torch.complex64)}
    file = models.export(tmp_path / "model.pt2", models.Same(), inputs)
    assert refusal(file) == "input 'x' is torch.complex64, which is not supported"


def test_signature_json_tells_of_torchscript_and_names_its_outputs(tmp_path: Path):
    file = models.script(tmp_path / "model.pt", models.Rows())
    document = {
        "inputs": {"x": {"dtype": "float", "shape": [None]}},
        "outputs": {"copy": {"dtype": "float"}, "rows": {"dtype": "float"}},
    }
    (tmp_path / "signature.json").write_text(json.dumps(document))
    servable = load(file)
    assert signature(servable).inputs == {"x": TensorInfo("x", DType.FLOAT, (None,))}
    rows, copy = run_and_wait(servable, {"x": ROWS}, ["rows", "copy"])
    assert (rows.tolist(), copy.tolist()) == ([3, 3, 3], [0, 1, 2])
    with pytest.raises(InvalidArgument, match="input 'x' must be float, not int64"):
        run_and_wait(servable, {"x": np.ones(1, np.int64)}, ["rows"])


def test_signature_json_has_to_name_the_parameters_of_forward(tmp_path: Path):
    file = models.script(tmp_path / "model.pt", models.Same())
    (tmp_path / "signature.json").write_text('{"inputs": {"z": {"dtype": "float"}}}')
    assert refusal(file) == (
        "signature.json: inputs are to be the parameters of forward, which are x, not z"
    )


class Keyed(torch.nn.Module):
    """``x`` → a dict of it as whole numbers, and as it is."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"a": x.long(), "b": x}


@pytest.mark.parametrize(
    ("outputs", "text"),
    [
        ({"zz": {"dtype": "float"}}, "outputs.zz is none of the model's, which are a, b"),
        ({"a": {"dtype": "float"}}, "outputs.a is not what the model gave, which is torch.int64"),
        (
            {"b": {"dtype": "float", "shape": [None, 5]}},
            "outputs.b is not what the model gave, which is torch.float32 of the shape [3]",
        ),
    ],
)
def test_an_output_that_is_not_as_declared_is_no_fault_of_the_client(
    tmp_path: Path, outputs: Mapping[str, Any], text: str
):
    file = models.script(tmp_path / "model.pt", Keyed())
    (tmp_path / "signature.json").write_text(json.dumps({"outputs": outputs}))
    with pytest.raises(FailedPrecondition) as raised:
        run_and_wait(load(file), {"x": ROWS}, list(outputs))
    assert raised.value.message.startswith(f"signature.json: {text}")


class Nested(torch.nn.Module):
    def forward(self, x: Any, more: Any, nothing: Any, times: int) -> Any:
        return {"a": x, "b": (more["k"] * times, [x + 1])}, x


def test_nested_inputs_and_outputs_are_named_by_their_keys_and_indices(tmp_path: Path):
    """What is no tensor has the value that it was exported with."""
    ones = torch.ones(2)
    example = {"x": ones, "more": {"k": ones}, "nothing": None, "times": 3}
    batch = {0: models.BATCH}
    sizes = {"x": batch, "more": {"k": batch}, "nothing": None, "times": None}
    servable = load(models.export(tmp_path / "model.pt2", Nested(), example, sizes))
    assert list(signature(servable).inputs) == ["x", "more_k"]
    names = ["output_0_a", "output_0_b_0", "output_0_b_1_0", "output_1"]
    assert list(signature(servable).outputs) == names
    outputs = run_and_wait(servable, {"x": ROWS, "more_k": ROWS}, names)
    assert [output[2] for output in outputs] == [2, 6, 3, 2]


@pytest.mark.parametrize("suffix", ["pt2", "pt"])
def test_a_model_that_writes_to_its_input_does_not_write_to_the_requests(
    tmp_path: Path, suffix: str
):
    file = tmp_path / f"model.{suffix}"
    if suffix == "pt2":
        models.export(file, models.InPlace(), {"x": torch.ones(3, 1)})
    else:
        models.script(file, models.InPlace())
    values = np.ones((2, 1), np.float32)
    values.flags.writeable = False
    (output,) = run_and_wait(load(file), {"x": values}, ["output_0"])
    assert (output.tolist(), values.tolist()) == ([[2], [2]], [[1], [1]])


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch, by its own decompositions
def test_a_program_without_operators_that_write_may_write_to_its_input(tmp_path: Path):
    """As after run_decompositions: PyTorch copies the results to the inputs at the end."""
    program = torch.export.export(models.InPlace().eval(), (torch.ones(3, 1),))
    torch.export.save(program.run_decompositions(), tmp_path / "model.pt2")
    values = np.frombuffer(np.ones((3, 1), np.float32).tobytes(), np.float32).reshape(3, 1)
    run_and_wait(load(tmp_path / "model.pt2"), {"x": values}, ["output_0"])
    assert values.tolist() == [[1], [1], [1]]


class Total(torch.nn.Module):
    """``x`` [3] → the sum of all that were given so far, which is memory of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.total.add_(x)
        return self.total


@pytest.mark.filterwarnings("ignore::FutureWarning")  # of PyTorch, by its own decompositions
@pytest.mark.parametrize("form", ["exported", "decomposed", "script"])
def test_an_answer_stays_as_it_was_given(tmp_path: Path, form: str):
    """Whatever the next request writes to the memory of the model."""
    if form == "script":
        servable = load(models.script(tmp_path / "model.pt", Total()))
    else:
        program = torch.export.export(Total().eval(), (torch.ones(3),))
        if form == "decomposed":
            program = program.run_decompositions()
        torch.export.save(program, tmp_path / "model.pt2")
        servable = load(tmp_path / "model.pt2")
    feeds = {"x": np.ones(3, np.float32)}
    (first,) = run_and_wait(servable, feeds, ["output_0"])
    (second,) = run_and_wait(servable, feeds, ["output_0"])
    assert (first.tolist(), second.tolist()) == ([1, 1, 1], [2, 2, 2])


class Pairs(torch.nn.Module):
    """``x`` [2 * batch] and ``y`` [batch] → the first half of x, plus y."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x[: y.shape[0]] + y


def test_a_size_that_is_made_of_another_is_what_that_makes_it(tmp_path: Path):
    sizes = {"x": {0: 2 * models.BATCH}, "y": {0: models.BATCH}}
    example = {"x": torch.ones(6), "y": torch.ones(3)}
    servable = load(models.export(tmp_path / "model.pt2", Pairs(), example, sizes))
    y = np.ones(3, np.float32)
    (output,) = run_and_wait(servable, {"x": np.ones(6, np.float32), "y": y}, ["output_0"])
    assert output.tolist() == [2, 2, 2]
    with pytest.raises(InvalidArgument) as raised:
        run_and_wait(servable, {"x": np.ones(9, np.float32), "y": y}, ["output_0"])
    assert raised.value.message == (
        "dimension 0 of input 'x' must be 6, for dimension 0 of input 'y', but is 9"
    )


def test_a_size_that_is_made_of_none_of_the_inputs_is_refused(tmp_path: Path):
    """Nothing would tell which sizes it takes."""
    sizes = {"x": {0: 2 * models.BATCH}}
    file = models.export(tmp_path / "model.pt2", models.Same(), {"x": torch.ones(6)}, sizes)
    assert "dimension 0 of input 'x' is 2*" in refusal(file)


def test_other_models_are_given_the_requests_own_memory(tmp_path: Path):
    class Itself(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[1:]

    file = models.trace(tmp_path / "model.pt", Itself(), torch.ones(3))
    values = np.frombuffer(ROWS.tobytes(), np.float32)
    (output,) = run_and_wait(load(file), {"x": values}, ["output_0"])
    assert np.shares_memory(output, values)


def test_a_model_with_loops_may_run_long(tmp_path: Path, tower: Servable):
    servable = load(models.script(tmp_path / "model.pt", models.Rounds()))
    assert may_run_long(servable)
    assert not may_run_long(tower)
    with pytest.raises(InvalidArgument) as raised:
        run_and_wait(servable, {"x": np.empty(0, np.float32)}, ["output_0"])
    assert raised.value.message == (
        "select(): index 0 out of range for tensor of size [0] at dimension 0"
    )


@pytest.mark.parametrize("device", [Device("gpu", 7), Device("cpu", 1)], ids=str)
def test_a_device_that_is_not_there_is_named_with_the_model(tmp_path: Path, device: Device):
    with pytest.raises(FailedPrecondition) as raised:
        load(tmp_path / "model.pt2", device)
    assert raised.value.message.startswith(
        f"{{name: m version: 1}} is to run on {device}, which its platform does not have here; "
        "it has cpu:0"
    )


def test_inputs_on_the_processor_need_no_memory_of_a_kind(tower: Servable):
    """Page-locked memory is for GPUs."""
    assert isinstance(tower, InputBuffers)
    assert tower.input_buffer((2, 3), np.dtype(np.float16)).shape == (2, 3)


def test_after_close_the_memory_is_free(tmp_path: Path):
    file = models.export(tmp_path / "model.pt2", models.Same(), {"x": torch.ones(3)})
    servable = load(file)
    program = weakref.ref(servable._program.run)
    servable.close()
    gc.collect()
    assert program() is None


def test_versions_may_be_loaded_at_the_same_time(tmp_path: Path):
    """PyTorch itself loads one exported program at a time only."""
    file = models.export(tmp_path / "model.pt2", models.Same(), {"x": torch.ones(3)})
    with ThreadPoolExecutor(4) as loading:
        servables = list(loading.map(load, [file] * 12))
    for servable in servables:
        assert run_and_wait(servable, {"x": ROWS}, ["output_0"])[0].tolist() == [0, 1, 2]


def test_a_version_is_one_file(tmp_path: Path):
    """None is preferred."""
    (tmp_path / "model.pt2").touch()
    (tmp_path / "model.pt").touch()
    with pytest.raises(NotFound, match="but there are 2"):
        load(tmp_path / "model.pt2")


def test_the_estimate_is_an_upper_bound_by_the_file(tmp_path: Path):
    (tmp_path / "model.pt2").write_bytes(bytes(1000))
    estimate = PyTorchPlatform().estimate(str(tmp_path))
    assert estimate == estimate.ram(2000 + 2**24)
    (tmp_path / "model.pt2").unlink()
    with pytest.raises(NotFound, match=r"a version is one model\.pt2 or model\.pt or "):
        PyTorchPlatform().estimate(str(tmp_path))


def test_models_are_loaded_and_run_where_tensorflow_is_not_installed(tmp_path: Path):
    """With threads that sleep while they wait."""
    models.export(tmp_path / "model.pt2", models.Same(), {"x": torch.ones(3)})
    program = (
        "import sys; sys.modules.update(tensorflow=None, tensorflow_serving=None)\n"
        "import numpy as np\n"
        "from serving.core.servable import run_and_wait\n"
        "from serving.loaders.platforms import Platforms\n"
        "platform = Platforms({}).get('pytorch')\n"
        "import os\n"
        "assert (os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules) == ('PASSIVE', True)\n"
        "assert sys.modules['triton'] is None\n"
        f"servable = platform.load(None, {str(tmp_path)!r})\n"
        "print(run_and_wait(servable, {'x': np.ones(2, np.float32)}, ['output_0'])[0].tolist())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    ran = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert ran.stdout == "[1.0, 1.0]\n"
