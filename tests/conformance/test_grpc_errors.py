"""Every error that clients of TensorFlow Serving may match on: the code and the exact text.

The tables stand in the order in which the server checks; ``test_the_earlier_fault_wins`` holds it
to that.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import exported_models as models
import numpy as np
import odd_models
import pytest
import tensorflow as tf
from exported_models import Exported
from google.protobuf.message import Message
from stock_clients import (
    Client,
    classify_request,
    client_of,
    example,
    metadata_request,
    multi_inference_request,
    predict_request,
    regress_request,
    reload_request,
    spec,
    status_request,
    write_config,
)
from tensorflow.core.framework.tensor_pb2 import TensorProto

from serving.testing import running_server

MISSING_SPEC = ("INVALID_ARGUMENT", "Missing ModelSpec")
NAMELESS = ("INVALID_ARGUMENT", "ModelSpec has no name specified.")
METHODS = "{tensorflow/serving/predict, tensorflow/serving/classify, tensorflow/serving/regress}"
ROW = np.ones((1, 2), np.float32)
BROKEN = TensorProto(dtype=tf.float32.as_datatype_enum, tensor_shape=tf.TensorShape([2]).as_proto())
BROKEN.tensor_content = b"five!"


def invalid(text: str) -> tuple[str, str]:
    return "INVALID_ARGUMENT", text


def not_found(text: str) -> tuple[str, str]:
    return "NOT_FOUND", f"Servable not found for request: {text}"


@pytest.fixture(scope="module")
def config(exported: Exported, tmp_path_factory: pytest.TempPathFactory) -> Path:
    served = {
        "half": models.half_plus_two,
        "matmul": models.matmul,
        "defaults": models.with_defaults,
        "unfed": models.unfed_placeholder,
        "odd": odd_models.odd_signatures,
    }
    bases = {name: exported(exporter).parent for name, exporter in served.items()}
    return write_config(tmp_path_factory.mktemp("config") / "models.config", bases)


@pytest.fixture(scope="module")
def ports(config: Path, grpc_engine: str) -> Iterator[tuple[int, int]]:
    """Of gRPC and of REST."""
    with running_server(f"--model_config_file={config}", grpc_engine) as server:
        yield server.grpc_port, server.rest_port


@pytest.fixture(scope="module")
def client(ports: tuple[int, int]) -> Iterator[Client]:
    with client_of(ports[0]) as made:
        yield made


def with_spec(method: str, model: object) -> Message:
    """A request that has nothing wrong but perhaps its model."""
    return {
        "Predict": lambda: predict_request(model, x=[[1.0]]),
        "Classify": lambda: classify_request(model, example(x=1)),
        "Regress": lambda: regress_request(model, example(x=1)),
        "GetModelMetadata": lambda: metadata_request(model, "signature_def"),
        "GetModelStatus": lambda: status_request(model),
        "MultiInference": lambda: multi_inference_request(
            (model, "regress"), examples=(example(x=1),)
        ),
    }[method]()


VERBS = ("Predict", "Classify", "Regress", "GetModelMetadata")


@pytest.mark.parametrize("method", [*VERBS, "GetModelStatus"])
def test_a_request_must_have_a_model_spec(client: Client, method: str) -> None:
    assert client.failure(method, with_spec(method, None)) == MISSING_SPEC


@pytest.mark.parametrize("method", [*VERBS, "MultiInference"])
@pytest.mark.parametrize(
    ("model", "failure"),
    [
        (spec(""), NAMELESS),
        (spec("", version=1), NAMELESS),
        (spec("half", version=7), not_found("Specific(half, 7)")),
        (spec("half", version=-1), not_found("Specific(half, -1)")),
        (spec("half", version=0), not_found("Specific(half, 0)")),
        (spec("none", version=7), not_found("Specific(none, 7)")),
        (spec("half", label="L"), invalid("Unrecognized servable version label: L")),
        (spec("none", label="L"), invalid("Unrecognized servable version label: L")),
        (spec("half", label=""), invalid("Unrecognized servable version label: ")),
        (spec("none"), not_found("Latest(none)")),
        (spec("HALF"), not_found("Latest(HALF)")),
    ],
    ids=str,
)
def test_the_model_spec_must_resolve(
    client: Client, method: str, model: object, failure: tuple[str, str]
) -> None:
    assert client.failure(method, with_spec(method, model)) == failure


PREDICT = {
    "signature absent": (
        predict_request(spec("half", "S"), x=[[1.0]]),
        ("FAILED_PRECONDITION", 'Serving signature key "S" not found.'),
    ),
    "default signature absent": (
        predict_request(spec("odd"), x=[[1.0]]),
        ("FAILED_PRECONDITION", 'Serving signature key "serving_default" not found.'),
    ),
    "too few inputs": (
        predict_request(spec("matmul"), a=ROW),
        invalid(
            "input size does not match signature: 1!=2 len({a}) != len({a,b}). "
            "Sent extra: {}. Missing but required: {b}."
        ),
    ),
    "no inputs": (
        predict_request(spec("matmul")),
        invalid(
            "input size does not match signature: 0!=2 len({}) != len({a,b}). "
            "Sent extra: {}. Missing but required: {a,b}."
        ),
    ),
    "too many inputs": (
        predict_request(spec("matmul"), z=ROW, b=ROW, a=ROW, c=ROW),
        invalid(
            "input size does not match signature: 4!=2 len({a,b,c,z}) != len({a,b}). "
            "Sent extra: {c,z}. Missing but required: {}."
        ),
    ),
    "too many inputs, some of which could be defaults": (
        predict_request(spec("defaults"), x=[1.0], scale=2.0, more=1.0),
        invalid(
            "input size does not match signature: 3!=2 len({more,scale,x}) != len({scale,x}). "
            "Sent extra: {more}. Missing but required: {}."
        ),
    ),
    "needed input missing": (
        predict_request(spec("matmul"), a=ROW, c=ROW),
        invalid(
            "Signature input alias: b(feed name: b:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {a,c}, or default input alias set: "
        ),
    ),
    "needed input missing beside a default": (
        predict_request(spec("defaults")),
        invalid(
            "Signature input alias: x(feed name: x:0) not found in request and no default value "
            "provided. Inputs expected to be in the request {}, or default input alias set: scale"
        ),
    ),
    "tensor not convertible": (
        predict_request(spec("matmul"), a=BROKEN, b=ROW),
        invalid("tensor parsing error: a"),
    ),
    "alias left over": (
        predict_request(spec("defaults"), x=[1.0], more=1.0),
        invalid("Inputs contains invalid name. Used request inputs: x, request input: more,x"),
    ),
    "unknown output": (
        predict_request(spec("matmul"), ("z",), a=ROW, b=ROW.T),
        invalid(
            "output tensor alias not found in signature: z Outputs expected to be in the set {y}."
        ),
    ),
    "output twice": (
        predict_request(spec("matmul"), ("y", "y"), a=ROW, b=ROW.T),
        invalid("duplicate output tensor alias: y"),
    ),
    "wrong type": (
        predict_request(spec("half"), x=[["text"]]),
        invalid("Expects arg[0] to be float but string is provided"),
    ),
    "wrong type of the second": (
        predict_request(spec("matmul"), a=ROW, b=np.ones((2, 1), np.int32)),
        invalid("Expects arg[1] to be float but int32 is provided"),
    ),
    "wrong shape": (
        predict_request(
            spec("matmul"), a=np.ones((2, 3), np.float32), b=np.ones((4, 2), np.float32)
        ),
        invalid("Matrix size-incompatible: In[0]: [2,3], In[1]: [4,2]\n\t [[{{node y}}]]"),
    ),
    "placeholder not fed": (
        predict_request(spec("unfed"), x=np.ones((1, 4), np.float32)),
        invalid(
            "You must feed a value for placeholder tensor 'z' with dtype float and shape [?,4]\n"
            "\t [[{{node z}}]]"
        ),
    ),
}


@pytest.mark.parametrize("fault", PREDICT)
def test_predict_refuses(client: Client, fault: str) -> None:
    request, failure = PREDICT[fault]
    assert client.failure("Predict", request) == failure


def outline(inputs: str, outputs: str, method: str) -> str:
    return f'inputs {{{inputs}}} outputs {{{outputs}}} method_name "tensorflow/serving/{method}"'


CLASSIFY = {
    "S": invalid("No signature was found with the name: S"),
    "": invalid("No signature was found with the name: serving_default"),
    "classify_two_inputs": invalid("Expected one input Tensor."),
    "classify_three_outputs": invalid("Expected one or two output Tensors, found 3"),
    "classify_wrong_input": (
        "FAILED_PRECONDITION",
        "No classification inputs found in SignatureDef: " + outline("wrong", "scores", "classify"),
    ),
    "classify_wrong_output": (
        "FAILED_PRECONDITION",
        'Expected classification signature outputs to contain at least one of "classes" or '
        '"scores". Signature was: ' + outline("inputs", "wrong", "classify"),
    ),
    "classify_rank_1": invalid("Expected Tensor shape: [batch_size num_classes] but got [2]"),
    "classify_int_scores": invalid("Expected scores Tensor of DT_FLOAT. Got: DT_INT64"),
    "classify_float_classes": invalid("Expected classes Tensor of DT_STRING. Got: DT_FLOAT"),
    "classify_one_row": invalid("Expected scores output batch size of 2. Got: 1"),
    "classify_uneven": invalid("Tensors class and score should match in dim_size(1). Got 2 vs. 3"),
}

REGRESS = {
    "S": invalid("No signature was found with the name: S"),
    "": invalid("No signature was found with the name: serving_default"),
    "regress_two_inputs": invalid("Expected one input Tensor."),
    "regress_two_outputs": invalid("Expected one output Tensor."),
    "regress_wrong_input": (
        "FAILED_PRECONDITION",
        "No regression inputs found in SignatureDef: " + outline("wrong", "outputs", "regress"),
    ),
    "regress_wrong_output": (
        "FAILED_PRECONDITION",
        "No regression outputs found in SignatureDef: " + outline("inputs", "wrong", "regress"),
    ),
    "regress_two_columns": invalid(
        "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got [2,2]"
    ),
    "regress_double": invalid("Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE"),
    "regress_one_row": invalid("Input batch size did not match output batch size: 2 vs. 1"),
}

TWO_EXAMPLES = (example(x=1), example(x=2))


@pytest.mark.parametrize("signature", CLASSIFY)
def test_classify_refuses(client: Client, signature: str) -> None:
    request = classify_request(spec("odd", signature), *TWO_EXAMPLES)
    assert client.failure("Classify", request) == CLASSIFY[signature]


@pytest.mark.parametrize("signature", REGRESS)
def test_regress_refuses(client: Client, signature: str) -> None:
    request = regress_request(spec("odd", signature), *TWO_EXAMPLES)
    assert client.failure("Regress", request) == REGRESS[signature]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("Classify", classify_request(spec("half", "classify_x_to_y"))),
        ("Regress", regress_request(spec("half", "regress_x_to_y"))),
        ("MultiInference", multi_inference_request((spec("half", "regress_x_to_y"), "regress"))),
    ],
)
def test_an_input_without_examples_is_empty(client: Client, method: str, request_: Message) -> None:
    assert client.failure(method, request_) == invalid("Input is empty.")
    request_.input.Clear()
    assert client.failure(method, request_) == invalid("Input is empty.")


def test_an_example_that_lacks_a_feature_is_refused_by_the_model(client: Client) -> None:
    request = regress_request(spec("half", "regress_x_to_y"), example(other=1))
    code, text = client.failure("Regress", request)
    assert code == "INVALID_ARGUMENT"
    assert "Feature: x (data type: float) is required but could not be found." in text


MULTI_INFERENCE = {
    "no tasks": (multi_inference_request(examples=TWO_EXAMPLES), NAMELESS),
    "nameless second task": (
        multi_inference_request((spec("half", "regress_x_to_y"), "regress"), (spec(""), "regress")),
        invalid("Found ModelSpec with an empty model name."),
    ),
    "two models": (
        multi_inference_request(
            (spec("half", "regress_x_to_y"), "regress"), (spec("odd"), "regress")
        ),
        invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name."),
    ),
    "signature twice": (
        multi_inference_request(
            (spec("half", "regress_x_to_y"), "regress"), (spec("half", "regress_x_to_y"), "regress")
        ),
        invalid("Duplicate evaluation of signature: regress_x_to_y"),
    ),
    "signature absent": (
        multi_inference_request((spec("half", "S"), "regress")),
        invalid("Requested signature not found in model graph: S"),
    ),
    "default signature absent": (
        multi_inference_request((spec("odd"), "regress")),
        invalid("Requested signature not found in model graph: serving_default"),
    ),
    "method": (
        multi_inference_request((spec("half", "regress_x_to_y"), "predict")),
        ("UNIMPLEMENTED", "Unsupported signature method_name: tensorflow/serving/predict"),
    ),
    "structure": (
        multi_inference_request((spec("odd", "regress_two_inputs"), "regress")),
        invalid("Expected one input Tensor."),
    ),
    "outputs": (
        multi_inference_request((spec("odd", "regress_one_row"), "regress"), examples=TWO_EXAMPLES),
        invalid("Input batch size did not match output batch size: 2 vs. 1"),
    ),
}


@pytest.mark.parametrize("fault", MULTI_INFERENCE)
def test_multi_inference_refuses(client: Client, fault: str) -> None:
    request, failure = MULTI_INFERENCE[fault]
    assert client.failure("MultiInference", request) == failure


METADATA = {
    "no field": (
        metadata_request(spec("half")),
        invalid("GetModelMetadataRequest must specify at least one metadata_field"),
    ),
    "unsupported field": (
        metadata_request(spec("half"), "F"),
        invalid("Metadata field F is not supported"),
    ),
    "unsupported field beside a good one": (
        metadata_request(spec("half"), "signature_def", "F"),
        invalid("Metadata field F is not supported"),
    ),
    "no field, unknown model": (
        metadata_request(spec("none")),
        invalid("GetModelMetadataRequest must specify at least one metadata_field"),
    ),
}


@pytest.mark.parametrize("fault", METADATA)
def test_metadata_refuses(client: Client, fault: str) -> None:
    request, failure = METADATA[fault]
    assert client.failure("GetModelMetadata", request) == failure


STATUS = {
    "nameless": (spec(""), ("NOT_FOUND", "Could not find any versions of model ")),
    "unknown": (spec("none"), ("NOT_FOUND", "Could not find any versions of model none")),
    "unknown version": (
        spec("half", version=7),
        ("NOT_FOUND", "Could not find version 7 of model half"),
    ),
    "version of an unknown model": (
        spec("none", version=7),
        ("NOT_FOUND", "Could not find version 7 of model none"),
    ),
}


@pytest.mark.parametrize("fault", STATUS)
def test_status_refuses(client: Client, fault: str) -> None:
    model, failure = STATUS[fault]
    assert client.failure("GetModelStatus", status_request(model)) == failure


# Each request has the fault that it is refused for, and one that would be found later.
TWO_FAULTS = {
    "model, then signature": (
        "Predict",
        predict_request(spec("none", "S"), x=[[1.0]]),
        not_found("Latest(none)"),
    ),
    "signature, then input count": (
        "Predict",
        predict_request(spec("matmul", "S")),
        ("FAILED_PRECONDITION", 'Serving signature key "S" not found.'),
    ),
    "input count, then tensor": (
        "Predict",
        predict_request(spec("matmul"), a=BROKEN),
        PREDICT["too few inputs"][1],
    ),
    "tensor, then alias left over": (
        "Predict",
        predict_request(spec("defaults"), x=BROKEN, more=1.0),
        invalid("tensor parsing error: x"),
    ),
    "alias left over, then output": (
        "Predict",
        predict_request(spec("defaults"), ("z",), x=[1.0], more=1.0),
        PREDICT["alias left over"][1],
    ),
    "tensor, then output": (
        "Predict",
        predict_request(spec("matmul"), ("z",), a=BROKEN, b=ROW),
        invalid("tensor parsing error: a"),
    ),
    "output unknown, then twice": (
        "Predict",
        predict_request(spec("matmul"), ("z", "y", "y"), a=ROW, b=ROW),
        PREDICT["unknown output"][1],
    ),
    "output twice, then type": (
        "Predict",
        predict_request(spec("matmul"), ("y", "y"), a=[["text"]], b=ROW),
        invalid("duplicate output tensor alias: y"),
    ),
    "type, then shape": (
        "Predict",
        predict_request(spec("matmul"), a=np.ones((2, 3), np.int32), b=ROW),
        invalid("Expects arg[0] to be float but int32 is provided"),
    ),
    "classify: model, then signature": (
        "Classify",
        classify_request(spec("none", "S")),
        not_found("Latest(none)"),
    ),
    "classify: signature, then input": (
        "Classify",
        classify_request(spec("odd", "S")),
        CLASSIFY["S"],
    ),
    "classify: structure, then input": (
        "Classify",
        classify_request(spec("odd", "classify_wrong_input")),
        CLASSIFY["classify_wrong_input"],
    ),
    "regress: signature, then input": ("Regress", regress_request(spec("odd", "S")), REGRESS["S"]),
    "regress: structure, then input": (
        "Regress",
        regress_request(spec("odd", "regress_two_columns")),
        invalid("Input is empty."),
    ),
    "multi: model, then second task": (
        "MultiInference",
        multi_inference_request((spec("none"), "regress"), (spec(""), "regress")),
        not_found("Latest(none)"),
    ),
    "multi: signature, then method": (
        "MultiInference",
        multi_inference_request((spec("half", "S"), "predict")),
        invalid("Requested signature not found in model graph: S"),
    ),
    "multi: first task, then second": (
        "MultiInference",
        multi_inference_request((spec("half", "S"), "regress"), (spec("odd"), "regress")),
        invalid("Requested signature not found in model graph: S"),
    ),
    "metadata: no field, then model": (
        "GetModelMetadata",
        metadata_request(spec("")),
        METADATA["no field"][1],
    ),
}


@pytest.mark.parametrize("faults", TWO_FAULTS)
def test_the_earlier_fault_wins(client: Client, faults: str) -> None:
    method, request, failure = TWO_FAULTS[faults]
    assert client.failure(method, request) == failure


def test_a_long_text_is_cut_over_grpc_and_whole_over_rest(
    client: Client, ports: tuple[int, int]
) -> None:
    name = "S" * 3000
    whole = f'Serving signature key "{name}" not found.'
    assert client.failure("Predict", predict_request(spec("half", name), x=[[1.0]])) == (
        "FAILED_PRECONDITION",
        whole[:1024] + "...TRUNCATED",
    )

    body = json.dumps({"signature_name": name, "instances": [[1.0]]}).encode()
    url = f"http://127.0.0.1:{ports[1]}/v1/models/half:predict"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(url, body, timeout=30)
    with caught.value as answer:
        assert answer.code == 400
        assert json.load(answer) == {
            "error": f'Serving signature name: "{name}" not found in signature def'
        }


def test_a_text_of_1024_characters_is_not_cut(client: Client) -> None:
    around = len('Serving signature key "" not found.')
    name = "S" * (1024 - around)
    _, text = client.failure("Predict", predict_request(spec("half", name), x=[[1.0]]))
    assert text == f'Serving signature key "{name}" not found.'
    assert len(text) == 1024


@pytest.fixture(scope="module")
def strict_client(config: Path, grpc_engine: str) -> Iterator[Client]:
    """Of a server that checks the method names of signatures."""
    flags = (f"--model_config_file={config}", "--enable_signature_method_name_check", grpc_engine)
    with running_server(*flags) as server, client_of(server.grpc_port) as made:
        yield made


METHOD_NAMES = {
    "predict an odd method": (
        "Predict",
        predict_request(spec("odd", "odd_method"), inputs=["a"]),
        (
            "INTERNAL",
            f"Expected prediction signature method_name to be one of {METHODS}. "
            "Was: tensorflow/serving/odd",
        ),
    ),
    "classify a predict method": (
        "Classify",
        classify_request(spec("odd", "classify_by_predict_method"), example(x=1)),
        invalid(
            "Expected classification signature method_name to be tensorflow/serving/classify. "
            "Was: tensorflow/serving/predict"
        ),
    ),
    "regress a predict method": (
        "Regress",
        regress_request(spec("odd", "regress_by_predict_method"), example(x=1)),
        invalid(
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            "Was: tensorflow/serving/predict"
        ),
    ),
    "infer from a predict method": (
        "MultiInference",
        multi_inference_request(
            (spec("odd", "regress_by_predict_method"), "regress"), examples=(example(x=1),)
        ),
        invalid(
            "Expected regression signature method_name to be tensorflow/serving/regress. "
            "Was: tensorflow/serving/predict"
        ),
    ),
}


@pytest.mark.parametrize("case", METHOD_NAMES)
def test_method_names_count_only_where_the_flag_says_so(
    client: Client, strict_client: Client, case: str
) -> None:
    method, request, failure = METHOD_NAMES[case]
    assert strict_client.failure(method, request) == failure
    client.call(method, request)


@pytest.mark.parametrize(
    ("method", "request_", "failure"),
    [
        (
            "Predict",
            predict_request(spec("odd", "odd_method")),
            METHOD_NAMES["predict an odd method"][2],
        ),
        (
            "Classify",
            classify_request(spec("odd", "regress_two_inputs"), example(x=1)),
            invalid(
                "Expected classification signature method_name to be tensorflow/serving/classify. "
                "Was: tensorflow/serving/regress"
            ),
        ),
        (
            "Regress",
            regress_request(spec("odd", "classify_two_inputs"), example(x=1)),
            invalid(
                "Expected regression signature method_name to be tensorflow/serving/regress. "
                "Was: tensorflow/serving/classify"
            ),
        ),
    ],
)
def test_the_method_name_is_checked_before_the_rest_of_the_signature(
    strict_client: Client, method: str, request_: Message, failure: tuple[str, str]
) -> None:
    assert strict_client.failure(method, request_) == failure


def test_the_method_name_check_lets_every_fitting_method_pass(strict_client: Client) -> None:
    strict_client.predict(spec("half"), x=[[1.0]])
    strict_client.predict(spec("odd", "classes_only"), inputs=["a"])
    strict_client.call("Classify", classify_request(spec("odd", "classes_only"), example(x=1)))
    strict_client.call("Regress", regress_request(spec("half", "regress_x_to_y"), example(x=1)))


@pytest.fixture(scope="module")
def half(exported: Exported) -> dict[str, str]:
    """The ModelConfig that the server of ``reloading`` begins with, and has after every refusal."""
    return {"name": "m", "base_path": str(exported(models.half_plus_two).parent)}


@pytest.fixture(scope="module")
def reloading(half: dict[str, str], grpc_engine: str) -> Iterator[Client]:
    flags = (
        "--model_name=m",
        f"--model_base_path={half['base_path']}",
        "--max_num_load_retries=0",
        grpc_engine,
    )
    with running_server(*flags) as server, client_of(server.grpc_port) as made:
        yield made


UNSUPPORTED_CONFIG = invalid(
    "ServerModelConfig type not supported by HandleReloadConfigRequest. "
    "Only ModelConfigList is currently supported"
)
RELOAD = {
    "duplicate": (
        [{"name": "n", "base_path": "/a"}, {"name": "n", "base_path": "/b"}],
        invalid("Illegal to list model n multiple times in config list"),
    ),
    "relative path": (
        [{"name": "n", "base_path": "a/b"}],
        invalid("Expected model n to have an absolute path or URI; got base_path()=a/b"),
    ),
    "no path": (
        [{"name": "n"}],
        invalid("Expected model n to have an absolute path or URI; got base_path()="),
    ),
    "no platform": (
        [{"name": "n", "base_path": "/a", "model_platform": ""}],
        invalid(
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
            "ModelServerConfig::model_platform, model name is n"
        ),
    ),
    "unknown platform": (
        [{"name": "n", "base_path": "/a", "model_platform": "caffe"}],
        invalid("Model n requests unsupported platform caffe"),
    ),
    "platform changed": (
        [{"name": "m", "base_path": "/a", "model_platform": "hashmap"}],
        invalid(
            "Illegal to change a model's platform. For model m platform was tensorflow and new "
            "platform requested is hashmap"
        ),
    ),
    "label of an unavailable version": (
        [{"name": "m", "base_path": "/a", "version_labels": {"next": 2}}],
        (
            "FAILED_PRECONDITION",
            "Request to assign label to version 2 of model m, "
            "which is not currently available for inference",
        ),
    ),
    "label of a model that is only now named": (
        [{"name": "n", "base_path": "/a", "version_labels": {"next": 2}}],
        (
            "FAILED_PRECONDITION",
            "Request to assign label to version 2 of model n, "
            "which is not currently available for inference",
        ),
    ),
}


@pytest.mark.parametrize("fault", RELOAD)
def test_a_reload_is_refused_and_changes_nothing(
    reloading: Client, half: dict[str, str], fault: str
) -> None:
    configs, failure = RELOAD[fault]
    assert reloading.failure("HandleReloadConfigRequest", reload_request(*configs)) == failure
    assert reloading.predict(spec(), x=[[2.0]])["y"] == 3
    assert reloading.states() == {1: ("AVAILABLE", "OK")}


def test_a_reload_takes_a_list_of_models_only(reloading: Client) -> None:
    nothing = reload_request()
    nothing.config.Clear()
    assert reloading.failure("HandleReloadConfigRequest", nothing) == UNSUPPORTED_CONFIG
    custom = reload_request()
    custom.config.custom_model_config.type_url = "type.example/own"
    assert reloading.failure("HandleReloadConfigRequest", custom) == UNSUPPORTED_CONFIG
    assert reloading.failure("HandleReloadConfigRequest", type(nothing)()) == UNSUPPORTED_CONFIG


def test_a_reload_that_names_a_missing_path_says_so(
    reloading: Client, half: dict[str, str], tmp_path: Path
) -> None:
    missing = {"name": "n", "base_path": str(tmp_path / "missing")}
    assert reloading.failure("HandleReloadConfigRequest", reload_request(half, missing)) == (
        "UNKNOWN",
        "1 model(s) did not become available: {{{name: n} due to error: INVALID_ARGUMENT: "
        f"Could not find base path {tmp_path}/missing for servable n "
        "(No such file or directory)}, }",
    )
    reloading.call("HandleReloadConfigRequest", reload_request(half))


def test_a_reload_whose_new_model_is_broken_says_why(
    reloading: Client, half: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "1").mkdir()
    broken = {"name": "n", "base_path": str(tmp_path)}
    assert reloading.failure("HandleReloadConfigRequest", reload_request(half, broken)) == (
        "UNKNOWN",
        "1 model(s) did not become available: {{{name: n version: 1} due to error: NOT_FOUND: "
        "Specified file path does not appear to contain a SavedModel bundle (should have a file "
        f"called `saved_model.pb`)\nSpecified file path: {tmp_path}/1}}, }}",
    )
    reloading.call("HandleReloadConfigRequest", reload_request(half))


def test_a_reload_answers_with_its_status_and_the_increase_of_metrics(
    reloading: Client, half: dict[str, str]
) -> None:
    names = ("/tensorflow/serving/request_count", "/none")
    request = reload_request(half, metric_names=names)
    response = reloading.call("HandleReloadConfigRequest", request)
    assert response.HasField("status")
    assert response.status.error_code == 0
    assert [(metric.name, metric.int64_value_increase) for metric in response.metric] == [
        (name, 0) for name in names
    ]
