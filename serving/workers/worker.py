"""The program of one worker: ``python -m serving.workers.worker FD``, started by the supervisor."""

from __future__ import annotations

import sys
from multiprocessing.connection import Connection

from serving.core.errors import ServingError
from serving.observability.log_lines import set_up_logging
from serving.workers.channel import Channel
from serving.workers.supervised_peers import SupervisedPeers

FAILURE = 255


def main(descriptor: int) -> int:
    """Serve as the supervisor says, until it or a signal ends this; the process's exit status.

    ``descriptor`` is the inherited end of the channel.
    """
    peers = SupervisedPeers(Channel(Connection(descriptor), "the supervisor"))
    begin = peers.await_begin()
    observability = begin.options.observability
    set_up_logging(begin.log_level, observability.log_format, observability.worker)
    # TensorFlow takes its time to import: the supervisor may end meanwhile, and then so does this.
    from serving.process import run  # noqa: PLC0415  # see above

    try:
        return run(begin.options, peers)
    except ServingError as error:
        peers.failed(error)
        return FAILURE


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
