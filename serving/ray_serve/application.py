"""The application of Ray Serve: ``serving.ray_serve.application:application``."""

from __future__ import annotations

from collections.abc import Mapping

from ray import serve

from serving.ray_serve.replica import Replica
from serving.ray_serve.replica_flags import replica_command_line

_AUTOSCALING = {
    # One that is lost must leave one that serves.
    "min_replicas": 2,
    "max_replicas": 8,
    # Well below max_ongoing_requests, so that there is room while a new replica starts, and well
    # above one, since only requests that come together can be joined into a batch.
    "target_ongoing_requests": 32,
    # A replica takes its seconds to start and to load models: few starts, and late ends.
    "upscale_delay_s": 10,
    "downscale_delay_s": 600,
}

deployment = serve.deployment(
    name="ModelServer",
    # Calls wait in the batching queues, where they hold no thread, and not in Ray's, where they
    # meet nobody.
    max_ongoing_requests=256,
    # Of each proxy; what is more is refused with RESOURCE_EXHAUSTED, over HTTP with 503.
    max_queued_requests=4096,
    autoscaling_config=_AUTOSCALING,
)(serve.ingress()(Replica))


def application(flags: Mapping[str, object]) -> serve.Application:
    """The application with these flags of the program, by name and without dashes.

    Raises InvalidArgument for flags that a replica cannot be given. What they name is looked at
    where the replicas run.
    """
    replica_command_line(flags)
    return deployment.bind(dict(flags))
