"""Predict: named tensors in, named tensors out, through any signature."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from serving.core.errors import FailedPrecondition, Internal, InvalidArgument, ServingError, Unknown
from serving.core.observed_call import CURRENT_CALL
from serving.core.servable import DEFAULT_SIGNATURE, Outputs, RunOptions, Servable, Signature
from serving.core.servable_handle import ServableHandle
from serving.core.servable_id import ServableId
from serving.inference.attempt import attempt
from serving.inference.signatures import CLASSIFY_METHOD, PREDICT_METHOD, REGRESS_METHOD

_MOST_PLANS = 64
"""For each signature; clients choose the order of aliases, of which there are many."""

_METHODS = (PREDICT_METHOD, CLASSIFY_METHOD, REGRESS_METHOD)


class PredictRequest(NamedTuple):
    """Inputs by alias, and which outputs are wanted (none named: all of the signature's).

    An empty ``signature_name`` means ``serving_default``. ``inputs`` may convert values when they
    are looked up, and may then raise InvalidArgument; nothing but the inputs that the signature
    knows is looked up.
    """

    signature_name: str
    inputs: Mapping[str, np.ndarray]
    output_filter: Sequence[str] = ()


class PredictResult(NamedTuple):
    """The outputs by alias, and the version and signature that made them."""

    servable_id: ServableId
    signature_name: str
    outputs: Mapping[str, np.ndarray]


def predict(
    handle: ServableHandle,
    request: PredictRequest,
    options: RunOptions,
    done: Callable[[PredictResult | ServingError], None],
    *,
    check_method_name: bool = False,
) -> None:
    """Check the request against its signature, run, and call ``done`` once with what came of it.

    Shapes and element types are not compared with the signature: the engine judges them, and its
    error is the client's. Never raises; does not release the handle.
    """
    name = request.signature_name or DEFAULT_SIGNATURE
    prepared = attempt(_prepared, handle.servable, name, request, check_method_name)
    if isinstance(prepared, ServingError):
        done(prepared)
        return
    plan, feeds = prepared
    call = CURRENT_CALL.get()
    if call is not None:
        call.signature_name = name

    def finish(outputs: Outputs | ServingError) -> None:
        if isinstance(outputs, ServingError):
            done(outputs)
        elif len(outputs) != len(plan.outputs):
            done(Unknown("Predict internal error"))
        else:
            done(PredictResult(handle.id, name, dict(zip(plan.outputs, outputs, strict=True))))

    handle.servable.run(feeds, plan.fetches, options, finish)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the checks of a request come to, for every request with its aliases and filter.

    ``inputs`` are the aliases that the request sends and the engine's names for them; ``defaults``
    are by the engine's names; ``outputs`` and ``fetches`` are the same in both kinds of names.
    """

    inputs: Sequence[tuple[str, str]]
    defaults: dict[str, np.ndarray]
    outputs: Sequence[str]
    fetches: Sequence[str]


def _prepared(
    servable: Servable, name: str, request: PredictRequest, check_method_name: bool
) -> tuple[_Plan, Mapping[str, np.ndarray]]:
    """The plan for a request and what to feed; raises what is wrong with the request."""
    signature = servable.signatures.get(name)
    if signature is None:
        raise FailedPrecondition(f'Serving signature key "{name}" not found.')
    if check_method_name:
        _check_method_name(signature)
    inputs = request.inputs
    key = (tuple(inputs), tuple(request.output_filter))
    plan: _Plan | None = signature.plans.get(key)
    if plan is None:
        _check_input_count(signature, inputs)
        feeds = _feeds(signature, inputs)
        plan = _plan(signature, inputs, _output_aliases(signature, request.output_filter))
        if len(signature.plans) >= _MOST_PLANS:
            signature.plans.clear()
        signature.plans[key] = plan
        return plan, feeds
    return plan, plan.defaults | {name: inputs[alias] for alias, name in plan.inputs}


def _plan(signature: Signature, inputs: Mapping[str, np.ndarray], outputs: Sequence[str]) -> _Plan:
    return _Plan(
        [(alias, info.name) for alias, info in signature.inputs.items() if alias in inputs],
        {
            info.name: signature.defaults[alias]
            for alias, info in signature.inputs.items()
            if alias not in inputs
        },
        tuple(outputs),
        tuple(signature.outputs[alias].name for alias in outputs),
    )


def _check_method_name(signature: Signature) -> None:
    if signature.method_name not in _METHODS:
        raise Internal(
            f"Expected prediction signature method_name to be one of {{{', '.join(_METHODS)}}}. "
            f"Was: {signature.method_name}"
        )


def _check_input_count(signature: Signature, inputs: Mapping[str, np.ndarray]) -> None:
    """Refuse more inputs than the signature has, and fewer unless it has defaults."""
    sent, known = len(inputs), len(signature.inputs)
    if sent == known or (sent < known and signature.defaults):
        return
    raise InvalidArgument(
        f"input size does not match signature: {sent}!={known} "
        f"len({{{_joined(inputs)}}}) != len({{{_joined(signature.inputs)}}}). "
        f"Sent extra: {{{_joined(inputs.keys() - signature.inputs.keys())}}}. "
        f"Missing but required: {{{_joined(signature.inputs.keys() - inputs.keys())}}}."
    )


def _feeds(signature: Signature, inputs: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
    """What to feed, by the engine's tensor names: the request's inputs, completed by defaults."""
    feeds: dict[str, np.ndarray] = {}
    used: list[str] = []
    for alias, info in signature.inputs.items():
        if alias in inputs:
            feeds[info.name] = inputs[alias]
            used.append(alias)
        elif alias in signature.defaults:
            feeds[info.name] = signature.defaults[alias]
        else:
            raise InvalidArgument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request "
                "and no default value provided. Inputs expected to be in the request "
                f"{{{_joined(inputs)}}}, or default input alias set: {_joined(signature.defaults)}"
            )
    if len(used) != len(inputs):
        raise InvalidArgument(
            f"Inputs contains invalid name. Used request inputs: {_joined(used)}, "
            f"request input: {_joined(inputs)}"
        )
    return feeds


def _output_aliases(signature: Signature, output_filter: Sequence[str]) -> Sequence[str]:
    """The aliases of the outputs to fetch, in the order of the filter where there is one."""
    if not output_filter:
        return tuple(signature.outputs)
    seen: set[str] = set()
    for alias in output_filter:
        if alias not in signature.outputs:
            raise InvalidArgument(
                f"output tensor alias not found in signature: {alias} "
                f"Outputs expected to be in the set {{{_joined(signature.outputs)}}}."
            )
        if alias in seen:
            raise InvalidArgument(f"duplicate output tensor alias: {alias}")
        seen.add(alias)
    return output_filter


def _joined(aliases: Iterable[str]) -> str:
    return ",".join(sorted(aliases))
