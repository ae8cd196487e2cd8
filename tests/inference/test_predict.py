"""Predict: the order of its checks, and what the engine is asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest

from serving.core.dtypes import DType
from serving.core.errors import Code, InvalidArgument, ServingError
from serving.core.servable import DEFAULT_SIGNATURE, RunOptions, Signature, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.predict import PredictRequest, PredictResult, predict

ONE, TWO = np.float32([1]), np.float32([2])


def info(name: str) -> TensorInfo:
    return TensorInfo(name, DType.FLOAT, (None,))


SUM = Signature(
    inputs={"a": info("a:0"), "b": info("b:0")},
    outputs={"sum": info("sum:0"), "product": info("product:0")},
    method_name="tensorflow/serving/predict",
)
SUM_WITH_DEFAULT = Signature(
    inputs=SUM.inputs, outputs=SUM.outputs, method_name="", defaults={"b": TWO}
)


class Arithmetic:
    """Adds and multiplies; remembers what it was run with; fails or answers short if told."""

    def __init__(self) -> None:
        self.signatures = {DEFAULT_SIGNATURE: SUM, "with_default": SUM_WITH_DEFAULT}
        self.runs: list[tuple[Mapping[str, np.ndarray], list[str], RunOptions]] = []
        self.error: ServingError | None = None
        self.answers_short = False

    def run(self, feeds, fetches, options, done):
        self.runs.append((dict(feeds), list(fetches), options))
        a, b = feeds["a:0"], feeds["b:0"]
        outputs = {"sum:0": a + b, "product:0": a * b}
        result = [outputs[fetch] for fetch in fetches]
        done(self.error or (result[1:] if self.answers_short else result))

    def close(self) -> None:
        pass


@pytest.fixture
def servable() -> Arithmetic:
    return Arithmetic()


def ask(servable, signature_name="", inputs=None, output_filter=(), **checks):
    """The one result of a predict on version 3 of ``m``."""
    results: list[PredictResult | ServingError] = []
    handle = ServableHandle(ServableId("m", 3), servable, lambda _: pytest.fail("not its lease"))
    request = PredictRequest(
        signature_name, {"a": ONE, "b": TWO} if inputs is None else inputs, output_filter
    )
    predict(handle, request, RunOptions(deadline=7.0), results.append, **checks)
    (result,) = results
    return result


def check_error(result, code: Code, message: str) -> None:
    assert (result.code, result.message) == (code, message)


def test_all_outputs_come_by_alias_through_the_default_signature(servable):
    result = ask(servable)
    assert (result.servable_id, result.signature_name) == (("m", 3), "serving_default")
    assert {alias: value.tolist() for alias, value in result.outputs.items()} == {
        "sum": [3],
        "product": [2],
    }
    assert servable.runs[0][2] == RunOptions(deadline=7.0)


def test_a_filter_prunes_what_is_fetched(servable):
    result = ask(servable, output_filter=["product"])
    assert list(result.outputs) == ["product"]
    assert servable.runs[0][1] == ["product:0"]


def test_a_default_supplies_what_the_request_leaves_out(servable):
    result = ask(servable, "with_default", {"a": ONE})
    assert result.outputs["sum"].tolist() == [3]


def test_a_sent_value_wins_over_the_default(servable):
    result = ask(servable, "with_default", {"a": ONE, "b": ONE})
    assert result.outputs["sum"].tolist() == [2]


METHODS = "tensorflow/serving/predict, tensorflow/serving/classify, tensorflow/serving/regress"
ERRORS = [
    pytest.param(
        {"signature_name": "S"},
        Code.FAILED_PRECONDITION,
        'Serving signature key "S" not found.',
        id="no such signature",
    ),
    pytest.param(
        {"signature_name": "with_default", "check_method_name": True},
        Code.INTERNAL,
        f"Expected prediction signature method_name to be one of {{{METHODS}}}. Was: ",
        id="method name",
    ),
    pytest.param(
        {"inputs": {"a": ONE}},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
        "Sent extra: {}. Missing but required: {b}.",
        id="too few inputs",
    ),
    pytest.param(
        {"inputs": {"z": ONE, "y": ONE, "a": ONE}},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 3!=2 len({a,y,z}) != len({a,b}). "
        "Sent extra: {y,z}. Missing but required: {b}.",
        id="too many inputs",
    ),
    pytest.param(
        {"signature_name": "with_default", "inputs": {"a": ONE, "b": ONE, "c": ONE}},
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 3!=2 len({a,b,c}) != len({a,b}). "
        "Sent extra: {c}. Missing but required: {}.",
        id="too many inputs although there are defaults",
    ),
    pytest.param(
        {"inputs": {"a": ONE, "z": ONE}},
        Code.INVALID_ARGUMENT,
        "Signature input alias: b(feed name: b:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {a,z}, or default input alias set: ",
        id="wrong input",
    ),
    pytest.param(
        {"signature_name": "with_default", "inputs": {"b": ONE}},
        Code.INVALID_ARGUMENT,
        "Signature input alias: a(feed name: a:0) not found in request and no default value "
        "provided. Inputs expected to be in the request {b}, or default input alias set: b",
        id="missing and not among the defaults",
    ),
    pytest.param(
        {"signature_name": "with_default", "inputs": {"a": ONE, "z": ONE}},
        Code.INVALID_ARGUMENT,
        "Inputs contains invalid name. Used request inputs: a, request input: a,z",
        id="left over",
    ),
    pytest.param(
        {"output_filter": ["sum", "z"]},
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: z "
        "Outputs expected to be in the set {product,sum}.",
        id="no such output",
    ),
    pytest.param(
        {"output_filter": ["sum", "sum"]},
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: sum",
        id="output twice",
    ),
]


@pytest.mark.parametrize(("request_", "code", "message"), ERRORS)
def test_wrong_requests_are_refused_before_anything_runs(servable, request_, code, message):
    check_error(ask(servable, **request_), code, message)
    assert servable.runs == []


class Unreadable(Mapping[str, np.ndarray]):
    """Two inputs, the first of which cannot be converted."""

    def __getitem__(self, alias: str) -> np.ndarray:
        raise InvalidArgument(f"tensor parsing error: {alias}")

    def __contains__(self, alias: object) -> bool:
        return alias in ("a", "z")

    def __iter__(self) -> Iterator[str]:
        return iter(("a", "z"))

    def __len__(self) -> int:
        return 2


def test_an_unreadable_input_is_found_before_names_left_over_and_outputs(servable):
    result = ask(servable, "with_default", Unreadable(), ["unknown"])
    check_error(result, Code.INVALID_ARGUMENT, "tensor parsing error: a")


def test_the_count_is_checked_before_any_input_is_read(servable):
    servable.signatures["one"] = Signature({"a": info("a:0")}, {"sum": info("sum:0")})
    assert ask(servable, "one", Unreadable()).message.startswith("input size does not match")


def test_the_error_of_the_run_is_the_clients(servable):
    servable.error = InvalidArgument("Expects arg[0] to be float but string is provided")
    assert ask(servable) is servable.error


def test_an_engine_that_answers_short_is_found_out(servable):
    servable.answers_short = True
    check_error(ask(servable), Code.UNKNOWN, "Predict internal error")


def test_a_defect_becomes_internal_without_its_text(servable, caplog):
    class Broken(Unreadable):
        def __getitem__(self, alias: str) -> np.ndarray:
            raise RuntimeError("/secret/path")

    check_error(ask(servable, "with_default", Broken()), Code.INTERNAL, "internal error")
    assert "/secret/path" in caplog.text


class TestPlans:
    """Requests with the same aliases and filter as an earlier one skip the checks it passed."""

    @pytest.fixture(autouse=True)
    def own_signatures(self, servable):
        servable.signatures = {
            name: replace(signature) for name, signature in servable.signatures.items()
        }

    def test_answer_every_request_with_its_own_values(self, servable):
        for value in (ONE, TWO):
            result = ask(servable, inputs={"a": value, "b": value}, output_filter=["sum"])
            assert result.outputs["sum"].tolist() == [2 * value[0]]
        assert len(servable.signatures[DEFAULT_SIGNATURE].plans) == 1

    def test_are_told_apart_by_aliases_and_by_filter(self, servable):
        for _ in range(2):
            for sent in ({"a": ONE, "b": ONE}, {"b": ONE, "a": ONE}, {"a": ONE}):
                for wanted in ([], ["sum"], ["product", "sum"]):
                    result = ask(servable, "with_default", sent, wanted)
                    assert list(result.outputs) == (wanted or ["sum", "product"])
                    assert result.outputs["sum"].tolist() == [3 if len(sent) == 1 else 2]

    def test_do_not_skip_the_check_of_the_method_name(self, servable):
        ask(servable, "with_default")
        result = ask(servable, "with_default", check_method_name=True)
        assert result.code is Code.INTERNAL

    def test_do_not_skip_an_input_that_cannot_be_read(self, servable):
        class Unreadable(dict[str, np.ndarray]):
            def __getitem__(self, alias: str) -> np.ndarray:
                raise InvalidArgument(f"tensor parsing error: {alias}")

        ask(servable)
        result = ask(servable, inputs=Unreadable(a=ONE, b=TWO))
        check_error(result, Code.INVALID_ARGUMENT, "tensor parsing error: a")

    def test_are_not_made_of_requests_that_are_refused(self, servable):
        ask(servable, inputs={"a": ONE, "z": ONE})
        ask(servable, output_filter=["z"])
        assert not servable.signatures[DEFAULT_SIGNATURE].plans

    def test_are_bounded_in_number(self, servable):
        names = [f"o{number}" for number in range(6)]
        infos = {name: info("sum:0") for name in names}
        servable.signatures["wide"] = Signature(SUM.inputs, infos)
        for wanted in permutations(names, 4):
            ask(servable, "wide", output_filter=wanted)
        assert len(servable.signatures["wide"].plans) <= 64
