"""TLS and mutual TLS on the gRPC ports, with certificates made for the occasion."""

import contextlib
import subprocess

import grpc
import pytest

from serving.core.errors import InvalidArgument, Unavailable
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.tls import TlsOptions

ECHO = "/test.Echo/Say"


def echo(request, context, reply):
    reply(request)


def openssl(*arguments, cwd):
    subprocess.run(["openssl", *arguments], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    """PEM texts by file name: a CA, and a server's and a client's key with certificates of it."""
    folder = tmp_path_factory.mktemp("tls")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl(
        *("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.crt"),
        *("-days", "2", "-subj", "/CN=test CA"),
        cwd=folder,
    )
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1")
    for name in ("server", "client"):
        openssl(
            *("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr"),
            *("-subj", f"/CN={name}"),
            cwd=folder,
        )
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key"),
            *("-CAcreateserial", "-days", "2", "-extfile", "names", "-out", f"{name}.crt"),
            cwd=folder,
        )
    return {path.name: path.read_text() for path in folder.iterdir() if path.suffix != ".srl"}


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(tls, **options):
        server = GrpcServer(
            GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", tls=tls, **options), {ECHO: echo}
        )
        server.start()
        try:
            yield f"localhost:{server.port}"
        finally:
            server.stop(0)

    return opened


def call(target, credentials):
    with grpc.secure_channel(target, credentials) as channel:
        return channel.unary_unary(ECHO)(b"hi", timeout=20)


def trusting(pem, **client):
    return grpc.ssl_channel_credentials(pem["ca.crt"].encode(), **client)


def with_certificate(pem):
    return trusting(
        pem,
        private_key=pem["client.key"].encode(),
        certificate_chain=pem["client.crt"].encode(),
    )


def test_a_client_that_trusts_the_ca_is_served(serving, pem):
    with serving(TlsOptions(pem["server.key"], pem["server.crt"])) as target:
        assert call(target, trusting(pem)) == b"hi"


def test_a_client_without_tls_is_not_served(serving, pem):
    with (
        serving(TlsOptions(pem["server.key"], pem["server.crt"])) as target,
        grpc.insecure_channel(target) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(ECHO)(b"hi", timeout=20)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_unix_socket_wants_tls_as_well(serving, pem, tmp_path):
    path = tmp_path / "grpc.sock"
    tls = TlsOptions(pem["server.key"], pem["server.crt"])
    override = [("grpc.ssl_target_name_override", "localhost")]
    with (
        serving(tls, socket_path=str(path)),
        grpc.secure_channel(f"unix:{path}", trusting(pem), options=override) as channel,
    ):
        assert channel.unary_unary(ECHO)(b"hi", timeout=20) == b"hi"


def mutual(pem):
    return TlsOptions(pem["server.key"], pem["server.crt"], pem["ca.crt"], client_verify=True)


def test_with_client_verify_a_client_with_a_certificate_is_served(serving, pem):
    with serving(mutual(pem)) as target:
        assert call(target, with_certificate(pem)) == b"hi"


def test_with_client_verify_a_client_without_a_certificate_is_not_served(serving, pem):
    with serving(mutual(pem)) as target, pytest.raises(grpc.RpcError) as caught:
        call(target, trusting(pem))

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    ("key", "cert"),
    [("no PEM", "no PEM"), ("server.key", "no PEM"), ("client.key", "server.crt")],
)
def test_a_key_and_certificate_of_no_use_are_refused_in_clear_words(grpc_engine, pem, key, cert):
    tls = TlsOptions(pem.get(key, key), pem.get(cert, cert))
    server = GrpcServer(GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", tls=tls), {})

    with pytest.raises(InvalidArgument) as caught:
        server.start()

    assert caught.value.message == (
        "TLS cannot use server_key, server_cert or custom_ca: they must be PEM texts, and the "
        "certificate must be the key's"
    )


def test_with_good_credentials_a_port_in_use_is_what_the_error_says(serving, grpc_engine, pem):
    tls = TlsOptions(pem["server.key"], pem["server.crt"])
    with serving(tls) as target:
        address = f"127.0.0.1:{target.partition(':')[2]}"
        second = GrpcServer(GrpcOptions(engine=grpc_engine, address=address, tls=tls), {})
        with pytest.raises(Unavailable, match=address):
            second.start()


def test_the_key_does_not_show_in_the_options_text(pem):
    assert "PRIVATE KEY" not in repr(TlsOptions(pem["server.key"], "cert"))
