"""TensorFlow Lite models through the tflite platform: signatures, runs, and how they fail."""

from __future__ import annotations

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tflite_models as models
from exported_models import Exported
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.core.dtypes import DType
from serving.core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    ServingError,
)
from serving.core.resources import ResourceAllocation
from serving.core.servable import BoundedServable, RunOptions, Servable, TensorInfo, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.device import CPU, Device
from serving.loaders.tflite_interpreter import TfLiteInterpreter
from serving.loaders.tflite_loader import TfLitePlatform
from serving.loaders.tflite_options import TfLiteOptions

ID = ServableId("m", 1)
Loaded = Callable[..., Servable]


def load(path: Path, num_interpreters: int = 1) -> Servable:
    return TfLitePlatform(TfLiteOptions(num_interpreters=num_interpreters)).load(ID, str(path))


@pytest.fixture(scope="module")
def loaded(exported: Exported) -> Loaded:
    """The servable of a converter, loaded once for all tests that only run it."""
    servables: dict[str, Servable] = {}

    def get(converter: Callable[..., None]) -> Servable:
        if converter.__name__ not in servables:
            servables[converter.__name__] = load(exported(converter))
        return servables[converter.__name__]

    return get


def call(servable: Servable, signature: str = "serving_default", **inputs: object) -> dict:
    """The outputs of a signature by alias; inputs by alias."""
    found = servable.signatures[signature]
    feeds = {found.inputs[alias].name: np.asarray(value) for alias, value in inputs.items()}
    outputs = run_and_wait(servable, feeds, [info.name for info in found.outputs.values()])
    return dict(zip(found.outputs, outputs, strict=True))


def floats(*values: object) -> np.ndarray:
    return np.array(values, np.float32)


def strings(*values: bytes) -> np.ndarray:
    return np.array(values, np.object_)


def refused(directory: Path) -> ServingError:
    with pytest.raises(ServingError) as raised:
        load(directory)
    return raised.value


# Signatures


def test_the_signature_list_of_todays_converter_is_what_the_model_offers(loaded: Loaded):
    signature = loaded(models.half_plus_two).signatures["serving_default"]
    (x,), (y,) = signature.inputs.values(), signature.outputs.values()
    assert signature.inputs.keys() | signature.outputs.keys() == {"x", "y"}
    assert (x.dtype, x.shape) == (y.dtype, y.shape) == (DType.FLOAT, (None, 1))
    assert signature.method_name == "tensorflow/serving/predict"


def test_the_metadata_that_tensorflow_serving_reads_comes_first(exported: Exported, tmp_path: Path):
    """The list stays in the file here, and does not count."""
    content = (exported(models.half_plus_two) / "model.tflite").read_bytes()
    definition = SignatureDef(method_name="tensorflow/serving/regress")
    definition.inputs["in"].name = "serving_default_x:0"
    (tmp_path / "model.tflite").write_bytes(models.with_metadata(content, {"only": definition}))
    signatures = load(tmp_path).signatures
    assert signatures.keys() == {"only"}
    assert signatures["only"].method_name == "tensorflow/serving/regress"
    assert SignatureDef.FromString(signatures["only"].encoded) == definition


def test_metadata_may_name_tensors_with_the_suffix_of_the_graph_they_were_in(loaded: Loaded):
    """``x:0`` in the SignatureDef, ``x`` in the file: the SignatureDef is handed on with that."""
    servable = loaded(models.half_plus_two_with_metadata)
    signature = servable.signatures["serving_default"]
    assert signature.inputs == {"x": TensorInfo("x", DType.FLOAT, (None, 1))}
    assert SignatureDef.FromString(signature.encoded).inputs["x"].name == "x"
    assert call(servable, x=floats([1.0], [2.0]))["y"].tolist() == [[2.5], [3.0]]


def test_a_file_without_signatures_gets_one_of_its_tensors_without_their_suffix(loaded: Loaded):
    servable = loaded(models.half_plus_two_bare)
    assert servable.signatures.keys() == {"serving_default"}
    signature = servable.signatures["serving_default"]
    assert signature.inputs == {"in": TensorInfo("in:0", DType.FLOAT, (None, 1))}
    assert signature.outputs == {"out": TensorInfo("out", DType.FLOAT, (None, 1))}
    assert signature.method_name == "tensorflow/serving/predict"
    assert call(servable, **{"in": floats([4.0])})["out"].tolist() == [[4.0]]


def test_signatures_may_lead_to_graphs_of_their_own(loaded: Loaded):
    servable = loaded(models.two_graphs)
    assert servable.signatures.keys() == {"half", "sum"}
    assert call(servable, "half", x=floats(3, 4))["y"].tolist() == [1.5, 2]
    assert call(servable, "sum", x=floats(1), z=floats(2))["y"].tolist() == [3]
    assert call(servable, "half", x=floats(8))["y"].tolist() == [4]


def test_metadata_of_unknown_tensors_fails_the_load(exported: Exported, tmp_path: Path):
    content = (exported(models.half_plus_two_bare) / "model.tflite").read_bytes()
    definition = SignatureDef()
    definition.inputs["a"].name = "nowhere:0"
    (tmp_path / "model.tflite").write_bytes(models.with_metadata(content, {"s": definition}))
    error = refused(tmp_path)
    assert isinstance(error, Internal)
    assert error.message == (
        "Unknown tensor 'nowhere:0'.\n\tSignature input a references an unknown tensor"
    )


@pytest.mark.parametrize(
    "data",
    [
        b"\x05",
        b"\x00\x04\x01",
        b"\xff" * 9,
        b"",
        b"k\x00\x02\xff\xff\x00\x01\x06\x01\x01\x01\x05\x14$\x01",
    ],
    ids=["a short one", "a number", "noise", "an empty one", "no message in it"],
)
def test_metadata_that_does_not_parse_is_an_error_or_nothing(
    exported: Exported, tmp_path: Path, data: bytes
):
    """An empty buffer is what flatbuffers leave out: no signatures."""
    content = (exported(models.half_plus_two_bare) / "model.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(models.with_metadata_buffer(content, data))
    if not data:
        assert load(tmp_path).signatures.keys() == {"serving_default"}
        return
    error = refused(tmp_path)
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith("Invalid SignatureDefs found in TfLite model: ")


def test_inputs_of_one_name_can_not_be_told_apart(exported: Exported, tmp_path: Path):
    content = (exported(models.strings) / "model.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(models.without_signatures(content, {0: "a", 1: "a"}))
    error = refused(tmp_path)
    assert isinstance(error, AlreadyExists)
    assert error.message == "Input tensor name: a has multiple indices"


# Runs


def test_inputs_take_on_the_shape_of_each_request(loaded: Loaded):
    servable = loaded(models.half_plus_two)
    for rows in (1, 3, 0, 2):
        assert call(servable, x=np.ones((rows, 1), np.float32))["y"].shape == (rows, 1)


def test_strings_go_in_and_out_as_bytes(loaded: Loaded):
    values = [b"", b"\x00\xff", "é".encode(), b"x" * 1000]
    outputs = call(loaded(models.strings), text=strings(*values), number=np.int64(7))
    assert outputs["column"].tolist() == [[value] for value in values]
    assert outputs["same"].tolist() == 7
    assert outputs["same"].shape == ()


def test_outputs_are_the_callers_own(loaded: Loaded):
    """A later run of the same interpreter does not write into them."""
    servable = loaded(models.half_plus_two)
    first = call(servable, x=floats([1.0]))["y"]
    call(servable, x=floats([9.0]))
    assert first.tolist() == [[2.5]]


def test_arrays_that_lie_anywhere_are_taken(loaded: Loaded):
    """Read-only, unaligned, and not in rows, as they come from a request's bytes."""
    unaligned = np.frombuffer(b"_" + floats(1, 2).tobytes(), np.float32, offset=1).reshape(2, 1)
    spread = np.zeros((2, 3), np.float32)[:, :1]
    servable = loaded(models.half_plus_two)
    assert call(servable, x=unaligned)["y"].tolist() == [[2.5], [3.0]]
    assert call(servable, x=spread)["y"].tolist() == [[2.0], [2.0]]


def run_error(servable: Servable, feeds: dict, fetches: list[str]) -> ServingError:
    with pytest.raises(ServingError) as raised:
        run_and_wait(servable, feeds, fetches)
    return raised.value


def test_a_run_needs_all_inputs_in_their_types(loaded: Loaded):
    """What is left out would be the values of an earlier call, perhaps of another client."""
    servable = loaded(models.strings)
    signature = servable.signatures["serving_default"]
    text, number = (signature.inputs[alias].name for alias in ("text", "number"))
    fetches = [info.name for info in signature.outputs.values()]
    error = run_error(servable, {number: np.int64(1)}, fetches)
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith("the model's inputs are ")
    error = run_error(servable, {text: strings(b"a"), number: floats(1)}, fetches)
    assert isinstance(error, InvalidArgument)
    assert error.message == f"input '{number}' must be int64, not float"


def test_an_unknown_output_is_named(loaded: Loaded):
    error = run_error(loaded(models.half_plus_two_bare), {"in:0": floats([1])}, ["z"])
    assert isinstance(error, Internal)
    assert error.message == "Missing output TFLite tensor: z: Unknown tensor 'z'."


def test_a_failed_run_leaves_nothing_to_the_next(loaded: Loaded):
    """Neither its shapes nor its text, and nothing of the interpreter's own source files."""
    servable = loaded(models.dense)
    signature = servable.signatures["serving_default"]
    name, fetch = signature.inputs["x"].name, signature.outputs["y"].name
    texts = {run_error(servable, {name: floats([1, 2, 3])}, [fetch]).message for _ in range(3)}
    (text,) = texts
    assert text.startswith("Failed to invoke TfLite interpreter: ")
    assert ".cc" not in text
    assert call(servable, x=floats([1, 2, 3, 4]))["y"].tolist() == [[10, 0]]


def test_where_no_interpreter_can_be_made_anew_the_old_one_allocates_anew(
    loaded: Loaded, monkeypatch: pytest.MonkeyPatch
):
    """What it remembers of shapes need not be what it has memory for."""
    servable = loaded(models.dense)
    signature = servable.signatures["serving_default"]
    name, fetch = signature.inputs["x"].name, signature.outputs["y"].name
    assert call(servable, x=floats([1, 2, 3, 4]))["y"].tolist() == [[10, 0]]

    def no_memory(_self: object) -> None:
        raise Internal("Failed to allocate tensors")

    with monkeypatch.context() as patched:
        patched.setattr(TfLiteInterpreter, "_made", no_memory)
        assert isinstance(run_error(servable, {name: floats([1, 2, 3])}, [fetch]), Internal)
    assert servable._free.get()._shapes == {}


def test_a_run_whose_deadline_has_passed_is_not_begun(loaded: Loaded):
    servable = loaded(models.half_plus_two_bare)
    outcome: list[object] = []
    options = RunOptions(deadline=time.monotonic() - 1)
    servable.run({"in:0": floats([1])}, ["out"], options, outcome.append)
    assert isinstance(outcome[0], DeadlineExceeded)


def test_runs_are_done_at_once_as_far_as_there_are_interpreters(exported: Exported):
    """Each answer is its own request's, though shapes differ all the time."""
    servable = load(exported(models.half_plus_two), num_interpreters=3)
    assert isinstance(servable, BoundedServable)
    assert servable.max_runs == 3

    def one(number: int) -> bool:
        rows = np.full((number % 5, 1), number, np.float32)
        return np.array_equal(call(servable, x=rows)["y"], rows / 2 + 2)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(one, range(400)))


def test_a_thread_waits_for_an_interpreter_until_its_deadline(exported: Exported):
    servable = load(exported(models.turns))
    signature = servable.signatures["serving_default"]
    name, fetch = signature.inputs["turns"].name, signature.outputs["y"].name
    begun = threading.Event()
    outcome: list[object] = []

    def occupy() -> None:
        begun.set()
        servable.run({name: np.array([2_000_000], np.int32)}, [fetch], RunOptions(), outcome.append)

    thread = threading.Thread(target=occupy)
    thread.start()
    begun.wait()
    while not servable._free.empty():
        time.sleep(0)
    late: list[object] = []
    options = RunOptions(deadline=time.monotonic() + 0.01)
    servable.run({name: np.array([1], np.int32)}, [fetch], options, late.append)
    assert isinstance(late[0], DeadlineExceeded)
    thread.join()
    assert outcome[0][0].tolist() == [2_000_000]


def test_the_number_of_interpreters_is_at_least_one(exported: Exported):
    assert load(exported(models.half_plus_two), num_interpreters=-1).max_runs == 1


def test_a_model_with_loops_may_run_long(loaded: Loaded):
    assert loaded(models.turns).may_run_long
    assert not loaded(models.half_plus_two).may_run_long


def test_there_is_no_other_device_than_the_processor(exported: Exported):
    path = str(exported(models.half_plus_two))
    assert call(TfLitePlatform(TfLiteOptions()).load(ID, path, CPU), x=floats([0]))
    with pytest.raises(FailedPrecondition, match="is to run on gpu:0"):
        TfLitePlatform(TfLiteOptions()).load(ID, path, Device("gpu"))


# Files


def test_memory_is_estimated_by_the_file_and_the_interpreters(exported: Exported):
    path = exported(models.half_plus_two)
    size = (path / "model.tflite").stat().st_size
    platform = TfLitePlatform(TfLiteOptions(num_interpreters=3))
    assert platform.estimate(str(path)) == ResourceAllocation.ram(4 * size)


def test_a_version_without_a_model_is_not_found(tmp_path: Path):
    assert isinstance(refused(tmp_path), NotFound)
    with pytest.raises(NotFound):
        TfLitePlatform(TfLiteOptions()).estimate(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"no model", b"\0" * 100])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "model.tflite").write_bytes(content)
    error = refused(tmp_path)
    assert isinstance(error, InvalidArgument)
    assert error.message.startswith("Cannot build Interpreter from buffer: ")


def test_operations_that_the_interpreter_has_not_are_named(exported: Exported, tmp_path: Path):
    content = (exported(models.dense) / "model.tflite").read_bytes()
    (tmp_path / "model.tflite").write_bytes(models.with_a_custom_operation(content, "Strange"))
    error = refused(tmp_path)
    assert isinstance(error, Internal)
    assert "custom op: Strange" in error.message


def test_a_model_that_parses_examples_does_not_load_and_the_operation_is_named(exported: Exported):
    """TensorFlow Serving registers that one, which LiteRT's package for Python does not have."""
    error = refused(exported(models.parses_examples))
    assert isinstance(error, Internal)
    assert "custom op: ParseExampleV2" in error.message


DAMAGED = """
import random, resource, sys
from pathlib import Path
import numpy as np
from serving.core.errors import Internal, ServingError
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tflite_loader import TfLitePlatform
from serving.loaders.tflite_options import TfLiteOptions

source, folder, times = sys.argv[1:]
# A damaged shape may ask for more memory than there is, and for seconds to fill it.
held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, held + 2**30))
whole = (Path(source) / "model.tflite").read_bytes()
chance = random.Random(7)
loaded = 0
for _ in range(int(times)):
    damaged = bytearray(whole)
    for _ in range(chance.choice([1, 1, 2, 8])):
        damaged[chance.randrange(len(damaged))] = chance.randrange(256)
    if chance.random() < 0.1:
        del damaged[chance.randrange(len(damaged)):]
    (Path(folder) / "model.tflite").write_bytes(damaged)
    try:
        servable = TfLitePlatform(TfLiteOptions()).load(ServableId("m", 1), folder)
    except ServingError:
        continue
    loaded += 1
    for signature in servable.signatures.values():
        feeds = {}
        for info in signature.inputs.values():
            shape = [1 if size is None else min(size, 2) for size in info.shape]
            value = b"" if info.dtype.label == "string" else 1
            feeds[info.name] = np.full(shape, value, object if value == b"" else np.float32)
        try:
            run_and_wait(servable, feeds, [info.name for info in signature.outputs.values()])
        except ServingError as error:
            assert error.message != "the run failed unexpectedly"
print(loaded)
"""


@pytest.mark.parametrize("converter", [models.half_plus_two, models.verbs])
def test_a_damaged_file_is_an_error_and_never_the_end_of_the_process(
    exported: Exported, tmp_path: Path, converter: Callable
):
    """Bytes are changed at random; what the interpreter's verifier lets through is run as well."""
    source = exported(converter)
    command = [sys.executable, "-c", DAMAGED, str(source), str(tmp_path), "150"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert int(ran.stdout) > 0


ANY_INPUTS = """
import random, sys
import numpy as np
from serving.core.dtypes import numpy_dtype
from serving.core.errors import ServingError
from serving.core.servable import run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.tflite_loader import TfLitePlatform
from serving.loaders.tflite_options import TfLiteOptions

chance = random.Random(7)
for folder in sys.argv[1:]:
    servable = TfLitePlatform(TfLiteOptions()).load(ServableId("m", 1), folder)
    for signature in servable.signatures.values():
        for _ in range(100):
            feeds = {}
            for info in signature.inputs.values():
                shape = [chance.choice([0, 1, 2, 4, 7]) for _ in range(chance.randrange(5))]
                values = [b"", b"a"] if info.dtype.label == "string" else [-(2**31), -1, 0, 3, 4, 9]
                array = np.empty(shape, numpy_dtype(info.dtype))
                array.flat = [chance.choice(values) for _ in range(array.size)]
                feeds[info.name] = array
            try:
                run_and_wait(servable, feeds, [info.name for info in signature.outputs.values()])
            except ServingError as error:
                assert error.message != "the run failed unexpectedly"
"""


def test_no_shape_and_no_value_that_a_client_sends_ends_the_process(exported: Exported):
    folders = [
        str(exported(converter))
        for converter in (models.dense, models.looked_up, models.strings, models.two_graphs)
    ]
    command = [sys.executable, "-c", ANY_INPUTS, *folders]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert ran.returncode == 0, ran.stderr[-2000:]


def test_an_unreadable_file_is_refused(exported: Exported, tmp_path: Path):
    (tmp_path / "model.tflite").symlink_to(tmp_path / "model.tflite")
    with pytest.raises(NotFound):
        load(tmp_path)
    shutil.rmtree(tmp_path)
    assert isinstance(refused(tmp_path), NotFound)
