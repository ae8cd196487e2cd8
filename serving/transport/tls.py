"""The credentials of encrypted gRPC ports."""

from __future__ import annotations

from concurrent import futures
from dataclasses import dataclass, field

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


def server_credentials(options: TlsOptions) -> grpc.ServerCredentials:
    """Credentials for the ports of a server; the PEM texts are read only when a port is opened."""
    return grpc.ssl_server_credentials(
        [(options.server_key.encode(), options.server_cert.encode())],
        root_certificates=options.custom_ca.encode() or None,
        require_client_auth=options.client_verify,
    )


def check_credentials(options: TlsOptions) -> None:
    """Raise InvalidArgument when the options are of no use on any port.

    gRPC does not tell a bad certificate from a port in use; a port that the system picks does.
    """
    scratch = grpc.server(futures.ThreadPoolExecutor(max_workers=1))
    try:
        scratch.add_secure_port("127.0.0.1:0", server_credentials(options))
    except RuntimeError:
        raise InvalidArgument(
            "TLS cannot use server_key, server_cert or custom_ca: they must be PEM texts, and the"
            " certificate must be the key's"
        ) from None
    scratch.start()  # a server that never ran would keep the port
    scratch.stop(None)
