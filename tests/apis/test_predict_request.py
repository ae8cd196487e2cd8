"""PredictRequests, read from their bytes: whatever these are, the same as protobuf reads."""

from __future__ import annotations

import threading
from collections import Counter
from random import Random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from predict_bytes import VALUE_TYPES, anything, damaged, requests
from tensorflow_serving.apis import predict_pb2

from serving.apis.tensorflow_serving import predict_request
from serving.apis.tensorflow_serving.messages import parse
from serving.apis.tensorflow_serving.model_spec import model_of
from serving.apis.tensorflow_serving.predict_request import PredictRequestReader, scan
from serving.apis.tensorflow_serving.tensor_codec import TensorMap, encode_tensor
from serving.core.dtypes import DType, numpy_dtype
from serving.core.errors import Internal, InvalidArgument
from serving.core.models import ModelSpec

every_type = pytest.mark.parametrize("dtype", VALUE_TYPES, ids=lambda dtype: dtype.label)
fuzz = settings(database=None, suppress_health_check=list(HealthCheck))


def request(array=None, *, name="m", version=None, output_filter=(), as_content=False, **inputs):
    message = predict_pb2.PredictRequest(output_filter=output_filter)
    message.model_spec.name = name
    if version is not None:
        message.model_spec.version.value = version
    for alias, value in (inputs if array is None else {"x": array}).items():
        encode_tensor(np.asarray(value), message.inputs[alias], as_content=as_content)
    return message.SerializeToString()


def sample(dtype: DType, count: int = 3) -> np.ndarray:
    if dtype is DType.STRING:
        return np.array([b"%d\xff" % index for index in range(count)], np.object_)
    elements = numpy_dtype(dtype)
    numbers = np.arange(count) % 2
    return numbers.astype(elements[0] if elements.names else elements).view(elements)


def outcome(read):
    """What a reader makes of a request, in a form that compares; any NaN is like another."""
    try:
        model, asked = read()
    except Internal as error:
        return error.message
    inputs = {alias: looked_up(asked.inputs, alias) for alias in asked.inputs}
    return model, asked.signature_name, asked.output_filter, inputs


def looked_up(inputs, alias):
    try:
        array = inputs[alias]
    except InvalidArgument as error:
        return error.message
    if array.dtype.kind in "fcO":
        return array.dtype, array.shape, repr(array.tolist())
    return array.dtype, array.shape, array.tobytes()


def by_protobuf(data: bytes):
    message = parse(predict_pb2.PredictRequest, data)
    asked = predict_request.PredictRequest(
        message.model_spec.signature_name, TensorMap(message.inputs), tuple(message.output_filter)
    )
    return model_of(message), asked


def check_as_protobuf(reader: PredictRequestReader, data: bytes) -> None:
    """Read twice, as the second time the layout may be known."""
    expected = outcome(lambda: by_protobuf(data))
    for _ in range(2):
        assert outcome(lambda: reader.read(data)) == expected


def is_plain(data: bytes) -> bool:
    try:
        scan(data).inputs(data)
    except (ValueError, IndexError):
        return False
    return True


class TestAnyBytes:
    reader = PredictRequestReader()
    """One for all, so that what one request taught it meets every other."""

    def check(self, data: bytes, seed: int, variants: int) -> None:
        random = Random(seed)
        check_as_protobuf(self.reader, data)
        for _ in range(variants):
            check_as_protobuf(self.reader, damaged(data, random))

    @settings(fuzz, max_examples=100)
    @given(data=anything, seed=st.integers(0, 2**32))
    def test_are_read_as_protobuf_reads_them(self, data, seed):
        self.check(data, seed, variants=20)

    @pytest.mark.slow
    @pytest.mark.timeout(1200)
    @settings(fuzz, max_examples=3000)
    @given(data=anything, seed=st.integers(0, 2**32))
    def test_are_read_as_protobuf_reads_them_in_150000_cases(self, data, seed):
        self.check(data, seed, variants=50)

    def test_that_end_too_early_are_refused_or_read_as_protobuf_reads_them(self):
        whole = request(a=np.float32([1, 2]), b=sample(DType.STRING), output_filter=["y"])
        for length in range(len(whole)):
            check_as_protobuf(self.reader, whole[:length])

    def test_of_usual_clients_are_mostly_read_without_protobuf(self):
        """Otherwise the comparison above would compare protobuf with itself."""
        plain: Counter[bool] = Counter()

        @settings(fuzz, max_examples=200)
        @given(data=requests())
        def count(data):
            plain[is_plain(data)] += 1

        count()
        assert plain[True] > 40


class TestUsualRequests:
    @every_type
    @pytest.mark.parametrize("as_content", [False, True])
    @pytest.mark.parametrize("count", [1, 3, 40])
    def test_are_read_without_protobuf(self, dtype, as_content, count):
        data = request(sample(dtype, count), as_content=as_content)
        many_large_varints = dtype in (DType.HALF, DType.BFLOAT16) and not as_content and count > 9
        assert is_plain(data) is not many_large_varints
        check_as_protobuf(PredictRequestReader(), data)

    def test_give_the_memory_of_the_request_itself(self):
        for as_content in (False, True):
            data = request(np.arange(6, dtype=np.float32).reshape(2, 3), as_content=as_content)
            _, asked = PredictRequestReader().read(data)
            assert np.shares_memory(asked.inputs["x"], np.frombuffer(data, np.uint8))
            assert not asked.inputs["x"].flags.writeable

    def test_name_a_model_a_version_and_outputs(self):
        reader = PredictRequestReader()
        for _ in range(2):
            model, asked = reader.read(
                request(np.float32([1]), version=300, output_filter=["b", "a"])
            )
            assert model == ModelSpec("m", 300)
            assert asked.output_filter == ("b", "a")
            assert asked.signature_name == ""

    def test_with_the_same_layout_differ_in_their_values_only(self):
        reader = PredictRequestReader()
        for values in ([1, 2], [3, 4], [5, 6]):
            _, asked = reader.read(request(a=np.float32(values), b=np.float64(values)))
            assert asked.inputs["a"].tolist() == asked.inputs["b"].tolist() == values

    def test_with_a_known_layout_are_not_scanned_again(self, monkeypatch):
        reader = PredictRequestReader()
        reader.read(request(np.float32([1, 2]), output_filter=["y"]))
        monkeypatch.setattr(predict_request, "scan", lambda _: pytest.fail("scanned"))
        _, asked = reader.read(request(np.float32([3, 4]), output_filter=["y"]))
        assert asked.inputs["x"].tolist() == [3, 4]

    def test_with_a_known_layout_and_unreadable_values_are_refused_as_ever(self):
        reader = PredictRequestReader()
        good = request(np.array([True, False]), as_content=True)
        reader.read(good)
        check_as_protobuf(reader, good[:-1] + b"\x02")


class TestWhatIsRemembered:
    def test_is_bounded_in_number(self):
        reader = PredictRequestReader()
        for rows in range(600):
            reader.read(request(np.zeros(rows + 1, np.float32)))
        assert sum(len(known) for known in reader._known.values()) <= 256

    def test_is_bounded_for_requests_of_one_length(self):
        reader = PredictRequestReader()
        for number in range(100, 300):
            reader.read(request(np.zeros(1, np.float32), name=f"m{number}"))
        assert max(len(known) for known in reader._known.values()) <= 8

    def test_leaves_out_requests_that_are_long_without_their_values(self):
        reader = PredictRequestReader()
        reader.read(request(np.zeros(1, np.float32), name="m" * 5000))
        assert not reader._known

    def test_is_right_on_every_thread(self):
        reader = PredictRequestReader()
        wrong: list[object] = []

        def read_many(first: int) -> None:
            for number in range(first, first + 800):
                rows = number % 300 + 1
                data = request(np.full(rows, number, np.float32), name=f"m{number % 7}")
                model, asked = reader.read(data)
                if model.name != f"m{number % 7}" or asked.inputs["x"].tolist() != [number] * rows:
                    wrong.append(number)

        threads = [threading.Thread(target=read_many, args=[n]) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@pytest.mark.parametrize(
    "filler", [b"\x1a\x00", b"\x12\x06\x0a\x00\x12\x02\x08\x01"], ids=["output_filter", "inputs"]
)
def test_very_many_fields_are_left_to_protobuf(filler):
    """A loop in Python over millions of them would hold up every other call."""
    data = request(np.float32([1])) + filler * 300
    assert not is_plain(data)
    check_as_protobuf(PredictRequestReader(), data)
