"""Feeds that are views into a request's bytes, at addresses that do not suit their elements."""

from __future__ import annotations

import exported_models as models
import numpy as np
import pytest
from exported_models import Exported

from serving.batching.batch import merged
from serving.core.dtypes import numpy_dtype
from serving.core.servable import Servable, input_buffers_of, run_and_wait
from serving.core.servable_id import ServableId
from serving.loaders.aligned_buffer import aligned_empty
from serving.loaders.instances import InstancesServable
from serving.loaders.tensorflow_loader import TensorFlowPlatform
from serving.loaders.tensorflow_options import TensorFlowOptions

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "complex128")
ENOUGH_RUNS_FOR_BOTH_THREADS = 20


@pytest.fixture(scope="module")
def identities(exported: Exported) -> Servable:
    path = str(exported(models.identities))
    return TensorFlowPlatform(TensorFlowOptions()).load(ServableId("identities", 1), path)


def view_at(offset: int, values: np.ndarray) -> np.ndarray:
    return np.ndarray(values.shape, values.dtype, bytes(offset) + values.tobytes(), offset)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("offset", [1, 2, 4, 7])
@pytest.mark.parametrize("rows", [3, 40_000])
def test_unaligned_feeds_arrive_unchanged(identities, dtype, offset, rows):
    signature = identities.signatures[dtype]
    (feed,), (fetch,) = signature.inputs.values(), signature.outputs.values()
    values = np.arange(rows).astype(numpy_dtype(feed.dtype))
    unaligned = view_at(offset, values)
    assert unaligned.flags.aligned == (offset % values.dtype.alignment == 0)
    for _ in range(ENOUGH_RUNS_FOR_BOTH_THREADS):
        (output,) = run_and_wait(identities, {feed.name: unaligned}, [fetch.name])
        assert output.tobytes() == values.tobytes()


@pytest.mark.parametrize("rows", [1, 5])
def test_unaligned_feeds_are_merged_into_a_batch(rows):
    values = [np.arange(rows) + number / 2 for number in range(3)]
    tasks = [{"x": view_at(offset, part)} for offset, part in enumerate(values, start=1)]
    batch = merged(tasks, 3 * rows, pad=False)["x"]
    assert batch.tolist() == np.concatenate(values).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_lies_in_a_buffer_of_the_servables_is_taken_without_a_copy(identities, dtype):
    """An identity's output is then a view of its input, and stays what it is."""
    signature = identities.signatures[dtype]
    (feed,), (fetch,) = signature.inputs.values(), signature.outputs.values()
    for _ in range(ENOUGH_RUNS_FOR_BOTH_THREADS):
        buffer = identities.input_buffer((40_000,), numpy_dtype(feed.dtype))
        buffer[:] = np.arange(40_000)
        (output,) = run_and_wait(identities, {feed.name: buffer}, [fetch.name])
        assert np.shares_memory(output, buffer)
        values = buffer.tobytes()
        del buffer
        assert output.tobytes() == values


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((40_000,), np.float32),
        ((3, 0, 7), np.float64),
        ((), np.float32),
        ((300, 300), np.dtype([("qint8", np.int8)])),
        ((2, 50_000), np.object_),
    ],
)
def test_memory_is_of_the_shape_and_type_asked_for(shape, dtype):
    buffer = aligned_empty(shape, np.dtype(dtype))
    assert (buffer.shape, buffer.dtype) == (shape, np.dtype(dtype))
    assert buffer.flags.c_contiguous
    assert buffer.flags.writeable
    if buffer.nbytes >= 2**16 and not buffer.dtype.hasobject:
        assert buffer.ctypes.data % 64 == 0


def test_batches_are_made_in_the_servables_memory(identities):
    """In that of instances too, and as what they are when it is strings."""
    empty = input_buffers_of(InstancesServable([identities, identities]))
    rows = np.ones((40_000, 1), np.float32)
    batch = merged([{"x": rows}, {"x": rows}], 80_000, pad=False, empty=empty)["x"]
    assert batch.ctypes.data % 64 == 0
    words = np.array([b"a"] * 40_000, np.object_)
    joined = merged([{"x": words}, {"x": words}], 80_000, pad=False, empty=empty)["x"]
    assert joined.tolist() == [b"a"] * 80_000
