"""tensorflow.serving.ModelService: the states of models, and a new configuration."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor

from serving.apis.tensorflow_serving import tensorflow_messages as protos
from serving.apis.tensorflow_serving.messages import parse
from serving.apis.tensorflow_serving.model_server_config import decode_model_configs
from serving.apis.tensorflow_serving.model_spec import requested_model
from serving.apis.tensorflow_serving.status_codec import encode_model_status, fill_status
from serving.core.call import CallContext, Reply, UnaryHandler
from serving.core.errors import InvalidArgument, ServingError
from serving.core.models import Models
from serving.inference.attempt import attempt
from serving.inference.model_status import model_status
from serving.metrics.registry import Metrics

# Asked of the descriptor so that it is loaded: reflection describes to clients what is.
_SERVICE: str = protos.MODEL_SERVICE_FILE.services_by_name["ModelService"].full_name

RELOAD = f"/{_SERVICE}/HandleReloadConfigRequest"
"""The method whose calls wait until models are loaded."""

log = logging.getLogger(__name__)


class ModelService:
    """Answers the calls of ModelService. Thread-safe.

    A reload looks at the storage of every model, so it begins on ``executor`` and not on the
    thread that brought the request; waiting for the models takes no thread.
    """

    def __init__(self, models: Models, metrics: Metrics, executor: Executor) -> None:
        self._models = models
        self._metrics = metrics
        self._executor = executor

    def methods(self) -> Mapping[str, UnaryHandler]:
        """The handler of each method, by its full path."""
        return {
            f"/{_SERVICE}/GetModelStatus": self._get_model_status,
            RELOAD: self._handle_reload_config,
        }

    def _get_model_status(self, data: bytes, _context: CallContext, reply: Reply) -> None:
        message = parse(protos.GetModelStatusRequest, data)
        states = model_status(self._models, requested_model(message))
        reply(encode_model_status(states).SerializeToString())

    def _handle_reload_config(self, data: bytes, _context: CallContext, reply: Reply) -> None:
        message = parse(protos.ReloadConfigRequest, data)

        def answer(outcome: bytes | ServingError | None) -> None:
            if isinstance(outcome, ServingError):
                log.error("a requested reload failed: %s", outcome)
            if outcome is not None:
                reply(outcome)

        self._executor.submit(lambda: answer(attempt(lambda: self._begin_reload(message, answer))))

    def _begin_reload(
        self,
        message: protos.ReloadConfigRequest,
        answer: Callable[[bytes | ServingError], None],
    ) -> None:
        """Raises for a configuration that is refused; ``answer`` hears how the others end."""
        if message.config.WhichOneof("config") != "model_config_list":
            raise InvalidArgument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. "
                "Only ModelConfigList is currently supported"
            )
        before = {name: self._metrics.first_value(name) for name in message.metric_names}

        def done(error: ServingError | None) -> None:
            answer(attempt(lambda: self._reload_response(before)) if error is None else error)

        self._models.begin_reload(decode_model_configs(message.config) or [], done)

    def _reload_response(self, before: Mapping[str, int]) -> bytes:
        response = protos.ReloadConfigResponse()
        fill_status(None, response.status)
        for name, value in before.items():
            increase = self._metrics.first_value(name) - value
            response.metric.add(name=name, int64_value_increase=increase)
        return response.SerializeToString()
