"""The files of TLS: what they say, and following them while the server runs."""

from __future__ import annotations

import logging
from contextlib import ExitStack
from dataclasses import dataclass

from serving.config.file_watcher import FileWatcher
from serving.config.text_proto import read_text, read_text_proto
from serving.core.clock import Clock
from serving.core.errors import InvalidArgument
from serving.transport.tls import Certificate, TlsOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """One SSLConfig in text format, or a key, its certificate and, to verify clients, their CA.

    All empty: no TLS. Raises InvalidArgument for both forms at once, or half of the second.
    """

    ssl_config: str = ""
    key: str = ""
    certificate: str = ""
    client_ca: str = ""

    def __post_init__(self) -> None:
        if self.ssl_config and (self.key or self.certificate or self.client_ca):
            raise InvalidArgument(
                "ssl_config_file cannot be set together with ssl_key_file, ssl_certificate_file "
                "and ssl_client_ca_file"
            )
        if bool(self.key) != bool(self.certificate):
            raise InvalidArgument("ssl_key_file and ssl_certificate_file must be set together")
        if self.client_ca and not self.key:
            raise InvalidArgument(
                "ssl_client_ca_file is set without setting ssl_key_file and ssl_certificate_file"
            )

    def read(self) -> TlsOptions | None:
        """What they say now; None where there are none.

        Raises NotFound for a missing file, InvalidArgument for one that says no TLS options.
        """
        if self.ssl_config:
            return _read_ssl_config(self.ssl_config)
        if not self.key:
            return None
        ca = _read_pem(self.client_ca) if self.client_ca else ""
        return TlsOptions(_read_pem(self.key), _read_pem(self.certificate), ca, bool(ca))

    def __str__(self) -> str:
        return self.ssl_config or self.certificate


def watch_tls_files(
    files: TlsFiles,
    certificate: Certificate,
    interval_seconds: float,
    clock: Clock,
    running: ExitStack,
) -> None:
    """Replace the certificate when the files change, until ``running`` closes.

    An interval of 0 or less never reads them again.
    """
    if interval_seconds <= 0:
        return

    def replace(options: TlsOptions | None) -> None:
        assert options is not None  # there are files, or there were no certificate
        certificate.replace(options)
        log.info("new connections are shown the certificate that is now in %s", files)

    watcher: FileWatcher[TlsOptions | None] = FileWatcher(
        f"certificate of {files}",
        files.read,
        replace,
        in_force=lambda: certificate.options,
        interval_seconds=interval_seconds,
        clock=clock,
    )
    watcher.start()
    running.callback(watcher.stop)


def _read_pem(path: str) -> str:
    try:
        return read_text(path)
    except InvalidArgument as error:
        text = error.message.replace("Invalid protobuf file", "Invalid PEM file")
        raise InvalidArgument(text) from None


def _read_ssl_config(path: str) -> TlsOptions:
    # A server without TLS has no use for the message.
    from serving.generated.ssl_config_pb2 import SSLConfig  # noqa: PLC0415

    config = read_text_proto(path, SSLConfig)
    return TlsOptions(config.server_key, config.server_cert, config.custom_ca, config.client_verify)
