"""The SSLConfig file: what it says, and following it while the server runs."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from functools import partial

from serving.config.file_watcher import FileWatcher
from serving.config.text_proto import read_text_proto
from serving.core.clock import Clock
from serving.transport.tls import Certificate, TlsOptions

log = logging.getLogger(__name__)


def read_ssl_config(path: str) -> TlsOptions:
    """Raises NotFound for a missing file, InvalidArgument for one that says no TLS options."""
    # A server without TLS has no use for the message.
    from serving.generated.ssl_config_pb2 import SSLConfig  # noqa: PLC0415

    config = read_text_proto(path, SSLConfig)
    return TlsOptions(config.server_key, config.server_cert, config.custom_ca, config.client_verify)


def watch_ssl_config(
    path: str,
    certificate: Certificate,
    interval_seconds: float,
    clock: Clock,
    running: ExitStack,
) -> None:
    """Replace the certificate when the file changes, until ``running`` closes.

    An interval of 0 or less never reads it again.
    """
    if interval_seconds <= 0:
        return

    def replace(options: TlsOptions) -> None:
        certificate.replace(options)
        log.info("new connections are shown the certificate that is now in %s", path)

    watcher = FileWatcher(
        "SSL config file",
        partial(read_ssl_config, path),
        replace,
        in_force=lambda: certificate.options,
        interval_seconds=interval_seconds,
        clock=clock,
    )
    watcher.start()
    running.callback(watcher.stop)
