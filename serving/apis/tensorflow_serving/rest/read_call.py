"""Which call a POST makes: its body, in whatever form it comes, as work for a model."""

from __future__ import annotations

from functools import partial

from serving.apis.tensorflow_serving.rest import tensors
from serving.apis.tensorflow_serving.rest.classify import classify, regress
from serving.apis.tensorflow_serving.rest.json_document import read_object
from serving.apis.tensorflow_serving.rest.predict import predict
from serving.apis.tensorflow_serving.rest.verb import Call, Headers, Verb

_VERBS: dict[str, Verb] = {"predict": predict, "classify": classify, "regress": regress}

VERBS = frozenset(_VERBS)
"""What runs a model."""


def read_call(
    verb: str, body: bytes, headers: Headers, *, max_bytes: int, check_method_name: bool
) -> Call:
    """The call that a decoded body makes: JSON, or for predict tensors in numpy's format.

    Raises InvalidArgument for what cannot be read, and RequestTooLarge where an archive holds more
    than ``max_bytes``.
    """
    run = _VERBS[verb]
    if verb == "predict":
        sent = tensors.media_type_of(headers)
        write = tensors.wanted_writer(headers, sent)
        if sent and write:
            name = headers.get(tensors.SIGNATURE_NAME, b"").decode("utf-8", "surrogateescape")
            inputs = tensors.read(body, sent, max_bytes)
            return tensors.TensorCall(name, inputs, write, check_method_name)
        run = partial(predict, write=write)
    document = read_object(body)
    return lambda handle, options, answer: run(
        handle, document, options, answer, check_method_name=check_method_name
    )
