"""The certificate of encrypted ports, which may be replaced while they are open."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc

from serving.core.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """PEM texts, not paths. With ``client_verify`` clients must show a certificate of the CA.

    Raises InvalidArgument when a part is missing.
    """

    server_key: str = field(repr=False)
    server_cert: str
    custom_ca: str = ""
    client_verify: bool = False

    def __post_init__(self) -> None:
        if not self.server_key or not self.server_cert:
            raise InvalidArgument("TLS needs both server_key and server_cert")
        if self.client_verify and not self.custom_ca:
            raise InvalidArgument("TLS with client_verify needs custom_ca to verify clients with")


class Certificate:
    """What ports show to their clients, and ask of them. Thread-safe.

    Raises InvalidArgument for options that are of no use on any port.
    """

    def __init__(self, options: TlsOptions) -> None:
        _ssl_context(options)  # raises where Python's ssl has no use for them
        self._contexts: dict[tuple[str, ...], ssl.SSLContext] = {}
        _check_for_grpc(options)
        self._options = options

    @property
    def options(self) -> TlsOptions:
        """What it is made of now."""
        return self._options

    def replace(self, options: TlsOptions) -> None:
        """Show this one from the next handshake on; connections that are open stay open.

        Raises InvalidArgument, and changes nothing, for options that are of no use or ask another
        thing of clients than before: gRPC settles that when it opens a port.
        """
        if options.client_verify != self._options.client_verify:
            raise InvalidArgument("client_verify cannot change while the server runs")
        new = Certificate(options)
        self._contexts = {key: _ssl_context(options, key) for key in self._contexts}
        self._options = new.options

    def grpc_credentials(self) -> grpc.ServerCredentials:
        """For one port of gRPC."""
        shown = self._options

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """Called at every handshake of the port, one at a time; None for what was there."""
            nonlocal shown
            if shown is self._options:
                return None
            shown = self._options
            return _grpc_configuration(shown)

        return grpc.dynamic_ssl_server_credentials(
            _grpc_configuration(shown),
            fetch,  # type: ignore[arg-type]  # the stubs have forgotten the None
            require_client_authentication=shown.client_verify,
        )

    def ssl_context(self, protocols: Sequence[str]) -> ssl.SSLContext:
        """For servers that stand on Python's ssl and speak these protocols, the best first."""
        key = tuple(protocols)
        self._contexts = {**self._contexts, key: _ssl_context(self._options, key)}
        context = _LatestContext(ssl.PROTOCOL_TLS_SERVER)
        context.latest = lambda: self._contexts[key]
        return context


class _LatestContext(ssl.SSLContext):
    """Begins connections with the context of the moment, which never changes itself.

    Each has sessions of its own: a client that resumes one from before a change is asked for its
    certificate again, and one of a former CA stays out.
    """

    latest: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *arguments: Any, **named: Any) -> ssl.SSLObject:
        return self.latest().wrap_bio(*arguments, **named)


_OF_NO_USE = (
    "TLS cannot use server_key, server_cert or custom_ca: they must be PEM texts, and the"
    " certificate must be the key's"
)


def _grpc_configuration(options: TlsOptions) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(options.server_key.encode(), options.server_cert.encode())],
        root_certificates=options.custom_ca.encode() or None,
    )


def _check_for_grpc(options: TlsOptions) -> None:
    """Ask gRPC, which does not tell a bad certificate from a port in use: on one that is free.

    Its library takes fewer keys and certificates than Python's.
    """
    scratch = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    credentials = grpc.ssl_server_credentials(
        [(options.server_key.encode(), options.server_cert.encode())],
        root_certificates=options.custom_ca.encode() or None,
        require_client_auth=options.client_verify,
    )
    try:
        scratch.add_secure_port("127.0.0.1:0", credentials)
    except RuntimeError:
        raise InvalidArgument(_OF_NO_USE) from None
    scratch.start()  # a server that never ran would keep the port
    scratch.stop(None)


def _ssl_context(options: TlsOptions, protocols: Sequence[str] = ()) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    if protocols:
        context.set_alpn_protocols(protocols)
    try:
        with _as_file(f"{options.server_key}\n{options.server_cert}\n") as path:
            context.load_cert_chain(path, password="")  # a key that needs one is refused
        if options.client_verify:
            context.load_verify_locations(cadata=_in_ascii(options.custom_ca))
            context.verify_mode = ssl.CERT_REQUIRED
    except (ssl.SSLError, ValueError):
        raise InvalidArgument(_OF_NO_USE) from None
    return context


def _in_ascii(pem: str) -> str:
    """What Python's ssl takes; comments, which nobody reads, may be in any language."""
    return pem.encode("ascii", "replace").decode("ascii")


@contextmanager
def _as_file(secret: str) -> Iterator[str]:
    """The path of a file with this text, since Python's ssl reads keys from files only.

    It is in memory where the system has such files: containers may have no disk to write to.
    """
    if hasattr(os, "memfd_create"):
        with os.fdopen(os.memfd_create("certificate"), "w", encoding="utf-8") as file:
            file.write(secret)
            file.flush()
            yield f"/proc/self/fd/{file.fileno()}"
    else:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".pem") as on_disk:
            on_disk.write(secret)
            on_disk.flush()
            yield on_disk.name
