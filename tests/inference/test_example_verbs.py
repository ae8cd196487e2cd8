"""Classify, regress and multi-inference: which signatures and outputs they take."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from serving.core.dtypes import DType
from serving.core.errors import Code, ServingError
from serving.core.servable import RunOptions, Signature, TensorInfo
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.classify import classify
from serving.inference.multi_inference import InferenceTask, multi_inference
from serving.inference.regress import regress

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
ROWS = [b"first", b"second"]


def tensors(*aliases: str) -> dict[str, TensorInfo]:
    return {alias: TensorInfo(f"{alias}:0", DType.STRING, None) for alias in aliases}


CLASSIFIER = Signature(tensors("inputs"), tensors("classes", "scores"), CLASSIFY)
REGRESSOR = Signature(tensors("inputs"), tensors("outputs"), REGRESS)
LABELS = np.array([[b"cat", b"dog"], [b"dog", b"cat"]], np.object_)
SCORES = np.float32([[0.75, 0.25], [0.5, 0.5]])
VALUES = np.float32([1.5, -2.5])


class Canned:
    """Gives the outputs it holds, by tensor name; ``extra`` adds one nobody asked for."""

    def __init__(self, **signatures: Signature) -> None:
        self.signatures = {"serving_default": CLASSIFIER, "regress": REGRESSOR, **signatures}
        self.outputs = {"classes:0": LABELS, "scores:0": SCORES, "outputs:0": VALUES}
        self.extra = False
        self.runs: list[tuple[dict[str, list[bytes]], list[str]]] = []

    def run(self, feeds, fetches, options, done):
        self.runs.append(({name: fed.tolist() for name, fed in feeds.items()}, list(fetches)))
        outputs = [self.outputs[fetch] for fetch in fetches]
        done([*outputs, VALUES] if self.extra else outputs)

    def close(self) -> None:
        pass


def ask(verb, servable, what, examples=ROWS, **checks):
    results = []
    handle = ServableHandle(ServableId("m", 3), servable, lambda _: pytest.fail("not its lease"))
    verb(handle, what, examples, RunOptions(), results.append, **checks)
    (result,) = results
    return result


def check_error(result, code: Code, message: str) -> None:
    assert isinstance(result, ServingError), result
    assert (result.code, result.message) == (code, message)


def test_classify_gives_labels_and_scores_of_each_row():
    servable = Canned()
    result = ask(classify, servable, "")
    assert (result.servable_id, result.signature_name, result.rows) == (
        ("m", 3),
        "serving_default",
        2,
    )
    assert (result.classes is LABELS, result.scores is SCORES) == (True, True)
    assert servable.runs == [({"inputs:0": ROWS}, ["classes:0", "scores:0"])]


@pytest.mark.parametrize("alias", ["classes", "scores"])
def test_classify_leaves_out_what_the_signature_lacks(alias):
    result = ask(classify, Canned(one=replace(CLASSIFIER, outputs=tensors(alias))), "one")
    assert getattr(result, alias) is not None
    assert getattr(result, {"classes": "scores", "scores": "classes"}[alias]) is None


@pytest.mark.parametrize("values", [VALUES, VALUES.reshape(2, 1)])
def test_regress_gives_one_value_a_row(values):
    servable = Canned()
    servable.outputs["outputs:0"] = values
    result = ask(regress, servable, "regress")
    assert (result.servable_id, result.signature_name) == (("m", 3), "regress")
    np.testing.assert_array_equal(result.values, VALUES)


def test_a_predict_signature_serves_when_the_method_name_is_not_checked():
    exported = replace(CLASSIFIER, method_name="tensorflow/serving/predict")
    assert ask(classify, Canned(exported=exported), "exported").rows == 2


SHAPE = "Expected Tensor shape: [batch_size num_classes] but got"
INVALID, PRECONDITION = Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION
CLASSIFY_SIGNATURES = [
    (replace(CLASSIFIER, inputs=tensors("inputs", "x")), INVALID, "Expected one input Tensor."),
    (
        replace(CLASSIFIER, outputs=tensors("classes", "scores", "x")),
        INVALID,
        "Expected one or two output Tensors, found 3",
    ),
    (
        replace(CLASSIFIER, inputs=tensors("x")),
        PRECONDITION,
        "No classification inputs found in SignatureDef: inputs {x} "
        f'outputs {{classes,scores}} method_name "{CLASSIFY}"',
    ),
    (
        replace(CLASSIFIER, outputs=tensors("y")),
        PRECONDITION,
        'Expected classification signature outputs to contain at least one of "classes" or '
        f'"scores". Signature was: inputs {{inputs}} outputs {{y}} method_name "{CLASSIFY}"',
    ),
]
REGRESS_SIGNATURES = [
    (replace(REGRESSOR, inputs={}), INVALID, "Expected one input Tensor."),
    (
        replace(REGRESSOR, outputs=tensors("outputs", "x")),
        INVALID,
        "Expected one output Tensor.",
    ),
    (
        replace(REGRESSOR, inputs=tensors("x")),
        PRECONDITION,
        "No regression inputs found in SignatureDef: inputs {x} outputs {outputs} "
        f'method_name "{REGRESS}"',
    ),
    (
        replace(REGRESSOR, outputs=tensors("y")),
        PRECONDITION,
        "No regression outputs found in SignatureDef: inputs {inputs} outputs {y} "
        f'method_name "{REGRESS}"',
    ),
]


@pytest.mark.parametrize(("signature", "code", "message"), CLASSIFY_SIGNATURES)
def test_signatures_that_cannot_classify_are_refused(signature, code, message):
    servable = Canned(bad=signature)
    check_error(ask(classify, servable, "bad"), code, message)
    task = InferenceTask("m", "bad", CLASSIFY)
    check_error(ask(multi_inference, servable, [task]), code, message)
    assert servable.runs == []


@pytest.mark.parametrize(("signature", "code", "message"), REGRESS_SIGNATURES)
def test_signatures_that_cannot_regress_are_refused(signature, code, message):
    servable = Canned(bad=signature)
    check_error(ask(regress, servable, "bad"), code, message)
    task = InferenceTask("m", "bad", REGRESS)
    check_error(ask(multi_inference, servable, [task]), code, message)
    assert servable.runs == []


@pytest.mark.parametrize("verb", [classify, regress])
def test_an_unknown_signature_is_an_invalid_argument(verb):
    check_error(ask(verb, Canned(), "S"), INVALID, "No signature was found with the name: S")


@pytest.mark.parametrize(
    ("verb", "signature", "noun", "method"),
    [
        (classify, "regress", "classification", CLASSIFY),
        (regress, "serving_default", "regression", REGRESS),
    ],
)
def test_the_method_name_is_checked_if_asked_for(verb, signature, noun, method):
    servable = Canned()
    check_error(
        ask(verb, servable, signature, check_method_name=True),
        INVALID,
        f"Expected {noun} signature method_name to be {method}. "
        f"Was: {servable.signatures[signature].method_name}",
    )


@pytest.mark.parametrize(
    ("verb", "what"),
    [
        (classify, ""),
        (regress, "regress"),
        (multi_inference, [InferenceTask("m", "", CLASSIFY)]),
    ],
)
def test_no_examples_are_refused_before_anything_runs(verb, what):
    servable = Canned()
    check_error(ask(verb, servable, what, []), INVALID, "Input is empty.")
    assert servable.runs == []


def test_the_signature_is_judged_before_the_input():
    message = "No signature was found with the name: S"
    check_error(ask(classify, Canned(), "S", []), INVALID, message)


CLASSIFY_OUTPUTS = [
    ("scores", np.float32([1, 2]), f"{SHAPE} [2]"),
    ("classes", np.empty((2, 1, 1), np.object_), f"{SHAPE} [2,1,1]"),
    ("classes", SCORES, "Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    ("scores", SCORES.astype(np.float64), "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE"),
    ("scores", SCORES[:1], "Expected scores output batch size of 2. Got: 1"),
    ("classes", LABELS[:1], "Expected classes output batch size of 2. Got: 1"),
    ("scores", SCORES[:, :1], "Tensors class and score should match in dim_size(1). Got 2 vs. 1"),
]
REGRESS_OUTPUTS = [
    (
        np.float32([[1, 2], [3, 4]]),
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]",
    ),
    (VALUES[:1], "Input batch size did not match output batch size: 2 vs. 1"),
    (VALUES.astype(np.int64), "Expected output Tensor of DT_FLOAT.  Got: DT_INT64"),
]


@pytest.mark.parametrize(("alias", "output", "message"), CLASSIFY_OUTPUTS)
def test_outputs_that_are_no_classification_are_refused(alias, output, message):
    servable = Canned()
    servable.outputs[f"{alias}:0"] = output
    check_error(ask(classify, servable, ""), INVALID, message)


@pytest.mark.parametrize(("output", "message"), REGRESS_OUTPUTS)
def test_outputs_that_are_no_regression_are_refused(output, message):
    servable = Canned()
    servable.outputs["outputs:0"] = output
    check_error(ask(regress, servable, "regress"), INVALID, message)


@pytest.mark.parametrize(
    ("verb", "what", "message"),
    [
        (classify, "", "Expected 2 output tensor(s).  Got: 3"),
        (
            regress,
            "regress",
            "Expected output_tensors and output_tensor_names to have the same size.",
        ),
        (
            multi_inference,
            [InferenceTask("m", "", CLASSIFY)],
            "Expected 2 output tensor(s).  Got: 3",
        ),
    ],
)
def test_an_engine_that_answers_too_much_is_found_out(verb, what, message):
    servable = Canned()
    servable.extra = True
    check_error(ask(verb, servable, what), INVALID, message)


def test_all_tasks_share_one_run_and_answer_in_their_order():
    servable = Canned()
    tasks = [InferenceTask("m", "regress", REGRESS), InferenceTask("m", "", CLASSIFY)]
    regressed, classified = ask(multi_inference, servable, tasks)
    np.testing.assert_array_equal(regressed.values, VALUES)
    assert (regressed.signature_name, classified.signature_name) == ("regress", "serving_default")
    assert classified.classes is LABELS
    assert servable.runs == [({"inputs:0": ROWS}, ["classes:0", "outputs:0", "scores:0"])]


@pytest.mark.parametrize(
    ("tasks", "code", "message"),
    [
        (
            [("m", "", CLASSIFY), ("", "regress", REGRESS)],
            INVALID,
            "Found ModelSpec with an empty model name.",
        ),
        (
            [("m", "", CLASSIFY), ("n", "regress", REGRESS)],
            INVALID,
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ),
        (
            [("m", "", CLASSIFY), ("m", "serving_default", REGRESS)],
            INVALID,
            "Duplicate evaluation of signature: serving_default",
        ),
        (
            [("m", "S", CLASSIFY)],
            INVALID,
            "Requested signature not found in model graph: S",
        ),
        (
            [("m", "", "tensorflow/serving/predict")],
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
    ],
)
def test_wrong_tasks_are_refused(tasks, code, message):
    result = ask(multi_inference, Canned(), [InferenceTask(*task) for task in tasks])
    check_error(result, code, message)


def test_one_output_that_does_not_fit_fails_the_whole_request():
    servable = Canned()
    servable.outputs["outputs:0"] = VALUES[:1]
    tasks = [InferenceTask("m", "", CLASSIFY), InferenceTask("m", "regress", REGRESS)]
    message = "Input batch size did not match output batch size: 2 vs. 1"
    check_error(ask(multi_inference, servable, tasks), INVALID, message)


def test_the_check_of_method_names_reaches_every_task():
    tasks = [InferenceTask("m", "", CLASSIFY), InferenceTask("m", "regress", CLASSIFY)]
    result = ask(multi_inference, Canned(), tasks, check_method_name=True)
    message = f"Expected classification signature method_name to be {CLASSIFY}. Was: {REGRESS}"
    check_error(result, INVALID, message)
