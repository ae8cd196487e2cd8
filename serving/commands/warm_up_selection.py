"""Which of the calls of a model are worth running before it serves."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from serving.apis.tensorflow_serving.prediction_log import logged_exchange, model_names
from serving.apis.tensorflow_serving.tensorflow_messages import PredictionLog
from serving.core.errors import InvalidArgument


@dataclass(slots=True)
class _Kind:
    """Calls that make a model do the same, as far as one can see from outside."""

    count: int = 0
    requests: dict[bytes, PredictionLog] = field(default_factory=dict)


class WarmUpSelection:
    """Takes calls, and keeps a few of each kind.

    Calls are of one kind that ask for the same verb, signature and outputs with inputs of the same
    types and shapes, or with as many examples: memory and kernels are chosen by these. Equal
    requests are one. Not thread-safe.
    """

    def __init__(self, num_of_each_kind: int, model_name: str = "") -> None:
        """``model_name``: take the calls of this model alone; empty: there must be but one."""
        self._num_of_each_kind = num_of_each_kind
        self._wanted = model_name
        self._name = model_name
        self._kinds: dict[Hashable, _Kind] = {}
        self.num_taken = 0

    def take(self, log: PredictionLog) -> None:
        """Consider a call; what is not a request of PredictionService is passed over.

        Raises InvalidArgument for a call of a second model where none was named.
        """
        exchange = logged_exchange(log)
        if exchange is None:
            return
        names = model_names(exchange.request)
        if self._wanted and names != {self._wanted}:
            return
        for name in names:
            if self._name not in ("", name):
                raise InvalidArgument(
                    f"there are calls of several models, {self._name} and {name} among them: "
                    "name one with --model_name"
                )
            self._name = name
        self.num_taken += 1
        kind = self._kinds.setdefault(_kind_of(log), _Kind())
        kind.count += 1
        if len(kind.requests) < self._num_of_each_kind:
            bare = _without_answer(log)
            kind.requests.setdefault(bare.SerializeToString(deterministic=True), bare)

    def records(self, most: int) -> Sequence[PredictionLog]:
        """What was kept, the most frequent kinds first: requests without answers."""
        kinds = sorted(self._kinds.values(), key=lambda kind: -kind.count)
        return [log for kind in kinds for log in kind.requests.values()][:most]


def _kind_of(log: PredictionLog) -> Hashable:
    verb = log.WhichOneof("log_type")
    request = getattr(log, verb or "").request
    if verb == "predict_log":
        inputs = frozenset(
            (alias, tensor.dtype, tuple(dim.size for dim in tensor.tensor_shape.dim))
            for alias, tensor in request.inputs.items()
        )
        return verb, request.model_spec.signature_name, tuple(request.output_filter), inputs
    listed = request.input.example_list.examples
    examples = len(listed or request.input.example_list_with_context.examples)
    if verb == "multi_inference_log":
        tasks = ((task.model_spec.signature_name, task.method_name) for task in request.tasks)
        return verb, tuple(tasks), examples
    return verb, request.model_spec.signature_name, examples


def _without_answer(log: PredictionLog) -> PredictionLog:
    bare = PredictionLog()
    bare.CopyFrom(log)
    bare.ClearField("log_metadata")
    getattr(bare, bare.WhichOneof("log_type") or "").ClearField("response")
    return bare
