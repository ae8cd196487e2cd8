"""Feeds that are views into a request's bytes, at addresses that do not suit their elements."""

from __future__ import annotations

import exported_models as models
import numpy as np
import pytest
from exported_models import Exported

from serving.batching.batch import merged
from serving.core.dtypes import numpy_dtype
from serving.core.servable import Servable, run_and_wait
from serving.core.servable_id import ServableId
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
