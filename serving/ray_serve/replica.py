"""One replica of the application: a whole server without ports."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

from serving import memory
from serving.config.options import ServerOptions, server_options
from serving.core.clock import Clock
from serving.core.errors import NotFound, ServingError, Unavailable
from serving.model_server import ModelServer
from serving.monitoring.monitoring import Monitoring
from serving.observability.log_lines import set_up_logging
from serving.observability.observation import Observation
from serving.ports import Ports
from serving.ray_serve.replica_app import ReplicaApp
from serving.ray_serve.replica_calls import Answer, GrpcContext, Message, ReplicaCalls
from serving.ray_serve.replica_flags import replica_command_line
from serving.ray_serve.replica_ports import ReplicaPorts
from serving.server_core import ServerCore

_PREDICTION = "/tensorflow.serving.PredictionService"
_MODEL = "/tensorflow.serving.ModelService"


class Replica:
    """Loads, batches, counts and answers as the program ``model_server`` does, told by its flags.

    Ray calls the methods that have the names of gRPC's on its event loop, with a request as bytes
    or as a message, and sends HTTP requests to the ASGI app.
    """

    def __init__(self, flags: Mapping[str, object]) -> None:
        """Returns when every configured model can be asked for.

        Unlike one server alone, which serves what it has: replicas that have other models than
        their siblings would answer some calls of a client and not others. Raises a ServingError
        that says which model is missing and why, or which flag is wrong.
        """
        command_line = replica_command_line(flags)
        set_up_logging(command_line["log_level"], command_line["log_format"])
        memory.set_up()
        options = server_options(command_line)
        self._server = ModelServer(options, make_ports=self._make_ports)
        self._server.start()
        if missing := _missing(self._server.core):
            self._server.stop()
            raise Unavailable(f"not every model is available: {'; '.join(missing)}")
        self._threads = ThreadPoolExecutor(options.grpc.max_threads, thread_name_prefix="calls")
        self._calls = ReplicaCalls(self._ports.methods, self._threads)

    def stop(self) -> None:
        """Unload everything, when calls have ended."""
        self._server.stop()
        self._threads.shutdown(wait=False)

    def check_health(self) -> None:
        """Raises Unavailable when no model can be asked for: Ray then replaces the replica."""
        if not self._server.core.can_serve():
            raise Unavailable("no model can be asked for")

    def __serve_build_asgi_app__(self) -> ReplicaApp:
        return ReplicaApp(self._ports.application, self.stop)

    async def Predict(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_PREDICTION}/Predict", request, grpc_context)

    async def Classify(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_PREDICTION}/Classify", request, grpc_context)

    async def Regress(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_PREDICTION}/Regress", request, grpc_context)

    async def MultiInference(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_PREDICTION}/MultiInference", request, grpc_context)

    async def GetModelMetadata(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_PREDICTION}/GetModelMetadata", request, grpc_context)

    async def GetModelStatus(self, request: bytes | Message, grpc_context: GrpcContext) -> Answer:
        return await self._calls.answer(f"{_MODEL}/GetModelStatus", request, grpc_context)

    async def HandleReloadConfigRequest(
        self, request: bytes | Message, grpc_context: GrpcContext
    ) -> Answer:
        return await self._calls.answer(
            f"{_MODEL}/HandleReloadConfigRequest", request, grpc_context
        )

    def _make_ports(
        self,
        options: ServerOptions,
        clock: Clock,
        observation: Observation,
        monitoring: Monitoring | None,
    ) -> Ports:
        self._ports = ReplicaPorts(options, clock, observation, monitoring)
        return self._ports


def _missing(core: ServerCore) -> list[str]:
    """What cannot be asked for, and why."""
    return [
        f"{name} ({_problem(core, name)})"
        for name in core.model_names()
        if not core.is_answering(name)
    ]


def _problem(core: ServerCore, name: str) -> str:
    try:
        states = core.versions(name)
    except NotFound as problem:
        return problem.message
    errors: list[ServingError] = [state.error for state in states if state.error]
    return errors[0].message if errors else "it has no version"
