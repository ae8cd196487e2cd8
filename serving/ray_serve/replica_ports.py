"""What a replica has in the place of ports: handlers and an app, for Ray's proxies to call."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from serving.apis.tensorflow_serving.model_service import RELOAD
from serving.core.call import CallContext, TransportReply, UnaryHandler
from serving.core.errors import Unimplemented
from serving.ports import Ports
from serving.server_core import ServerCore
from serving.transport.http_engine import AsgiApp
from serving.transport.observed_calls import observed

_NO_RELOAD = (
    "HandleReloadConfigRequest would reach one replica of several. Change the file of "
    "--model_config_file, which all follow with --model_config_file_poll_wait_seconds, or deploy "
    "the application with other flags"
)


class ReplicaPorts(Ports):
    """Opens none, and keeps what would answer there.

    ``methods``: the handlers of gRPC by their paths, counted and observed as on a port.
    ``application``: all that would answer on the REST port.
    """

    methods: Mapping[str, UnaryHandler]
    application: AsgiApp

    def open_grpc(
        self,
        methods: Mapping[str, UnaryHandler],
        waiting: frozenset[str],  # noqa: ARG002  # the only one of them here is refused
        core: ServerCore,  # noqa: ARG002  # health is Ray's to ask for
        running: ExitStack,  # noqa: ARG002  # nothing opens, so nothing closes
    ) -> None:
        handlers = {**methods, RELOAD: _refuse_reload}
        if monitoring := self._monitoring:
            handlers = {
                path: monitoring.measured_handler(path, handler)
                for path, handler in handlers.items()
            }
        self.methods = observed(handlers, self._observation.observer)

    def open_http(self, application: AsgiApp) -> None:
        self.application = application


def _refuse_reload(_request: bytes, _context: CallContext, reply: TransportReply) -> None:
    reply(Unimplemented(_NO_RELOAD))
