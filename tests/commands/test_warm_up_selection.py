"""Which calls make a warm-up file: few of each kind, the most frequent kinds first."""

from __future__ import annotations

import numpy as np
import prediction_logs as logs
import pytest
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from serving.commands.warm_up_selection import WarmUpSelection
from serving.core.errors import InvalidArgument


def of(*sizes: int, name: str = "m", **fields: object) -> PredictionLog:
    return logs.of_predict("", name, x=np.zeros(sizes, np.float32), **fields)


def selected(*calls: PredictionLog, each: int = 1, most: int = 1000, name: str = ""):
    selection = WarmUpSelection(each, name)
    for call in calls:
        selection.take(call)
    return list(selection.records(most))


def test_calls_with_the_same_shapes_are_one_kind():
    other_values = logs.of_predict("", "m", x=np.ones(2, np.float32))
    assert selected(of(2), of(2), other_values, of(3)) == [of(2), of(3)]


DIFFERENT = {
    "type": logs.of_predict("", "m", x=np.zeros(2, np.float64)),
    "alias": logs.of_predict("", "m", z=np.zeros(2, np.float32)),
    "signature": logs.of_predict("other", "m", x=np.zeros(2, np.float32)),
    "verb": logs.of_classify("", 1.0),
}


@pytest.mark.parametrize("other", DIFFERENT.values(), ids=DIFFERENT)
def test_what_makes_a_model_do_something_else_is_another_kind(other: PredictionLog):
    if other.HasField("classify_log"):
        other.classify_log.request.model_spec.name = "m"
    assert len(selected(of(2), other)) == 2


def test_another_output_filter_is_another_kind():
    filtered = of(2)
    filtered.predict_log.request.output_filter.append("y")
    assert len(selected(of(2), filtered)) == 2


def test_examples_are_of_one_kind_by_their_number():
    calls = [
        logs.of_regress("s", 1.0),
        logs.of_regress("s", 2.0),
        logs.of_regress("s", 1.0, 2.0),
        logs.of_multi_inference(("regress", "s"), values=[1.0]),
        logs.of_multi_inference(("regress", "s"), ("classify", "t"), values=[1.0]),
        logs.of_multi_inference(("regress", "s"), values=[3.0]),
    ]
    for call in calls[:3]:
        call.regress_log.request.model_spec.name = "any"
    assert selected(*calls) == [calls[0], calls[3], calls[2], calls[4]]


def test_several_different_requests_of_a_kind_are_kept_where_that_is_wanted():
    ones = logs.of_predict("", "m", x=np.ones(2, np.float32))
    twos = logs.of_predict("", "m", x=np.full(2, 2, np.float32))
    assert selected(of(2), of(2), ones, twos, each=2) == [of(2), ones]


def test_the_most_frequent_kinds_are_kept_where_there_are_too_many():
    assert selected(of(1), of(2), of(3), of(3), of(2), of(3), most=2) == [of(3), of(2)]


def test_answers_and_metadata_are_left_out():
    call = of(2)
    call.predict_log.response.outputs["y"].dtype = 1
    call.log_metadata.dc = "ab"
    assert selected(call) == [of(2)]


def test_what_is_no_request_is_passed_over():
    assert selected(logs.OF_NOTHING, logs.OF_A_SESSION_RUN, of(2)) == [of(2)]


def test_calls_of_several_models_are_refused_unless_one_is_named():
    with pytest.raises(InvalidArgument) as raised:
        selected(of(1, name="m"), of(1, name="n"))
    assert raised.value.message == (
        "there are calls of several models, m and n among them: name one with --model_name"
    )
    assert selected(of(1, name="m"), of(2, name="n"), name="n") == [of(2, name="n")]
