"""TLS and mutual TLS on the gRPC ports, with certificates made for the occasion."""

import contextlib

import grpc
import pytest
from waiting import WAIT_SECONDS

from serving.core.errors import InvalidArgument, Unavailable
from serving.transport.grpc_options import GrpcOptions
from serving.transport.grpc_server import GrpcServer
from serving.transport.tls import Certificate, TlsOptions

ECHO = "/test.Echo/Say"


def echo(request, context, reply):
    reply(request)


@pytest.fixture(scope="module")
def server(old):
    return old.issue("server")


@pytest.fixture(scope="module")
def client(old):
    return old.issue("client")


@pytest.fixture
def serving(grpc_engine):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(certificate, **options):
        server = GrpcServer(
            GrpcOptions(engine=grpc_engine, address="127.0.0.1:0", **options),
            {ECHO: echo},
            certificate=certificate,
        )
        server.start()
        try:
            yield f"localhost:{server.port}"
        finally:
            server.stop(0)

    return opened


def plain(server):
    return Certificate(TlsOptions(server.key, server.cert))


def mutual(server, ca):
    return Certificate(TlsOptions(server.key, server.cert, ca.cert, client_verify=True))


def call(target, credentials):
    with grpc.secure_channel(target, credentials) as channel:
        return channel.unary_unary(ECHO)(b"hi", timeout=WAIT_SECONDS)


def refusal(target, credentials):
    with pytest.raises(grpc.RpcError) as caught:
        call(target, credentials)
    return caught.value.code()


def trusting(ca, pair=None):
    return grpc.ssl_channel_credentials(
        ca.cert.encode(), pair and pair.key.encode(), pair and pair.cert.encode()
    )


def test_a_client_that_trusts_the_ca_is_served(serving, old, server):
    with serving(plain(server)) as target:
        assert call(target, trusting(old)) == b"hi"


def test_a_client_without_tls_is_not_served(serving, server):
    with (
        serving(plain(server)) as target,
        grpc.insecure_channel(target) as channel,
        pytest.raises(grpc.RpcError) as caught,
    ):
        channel.unary_unary(ECHO)(b"hi", timeout=WAIT_SECONDS)

    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_unix_socket_wants_tls_as_well(serving, old, server, tmp_path):
    path = tmp_path / "grpc.sock"
    override = [("grpc.ssl_target_name_override", "localhost")]
    with (
        serving(plain(server), socket_path=str(path)),
        grpc.secure_channel(f"unix:{path}", trusting(old), options=override) as channel,
    ):
        assert channel.unary_unary(ECHO)(b"hi", timeout=WAIT_SECONDS) == b"hi"


def test_with_client_verify_a_client_with_a_certificate_is_served(serving, old, server, client):
    with serving(mutual(server, old)) as target:
        assert call(target, trusting(old, client)) == b"hi"


def test_with_client_verify_a_client_without_a_certificate_is_not_served(serving, old, server):
    with serving(mutual(server, old)) as target:
        assert refusal(target, trusting(old)) is grpc.StatusCode.UNAVAILABLE


def test_a_new_certificate_is_shown_to_new_connections_and_breaks_no_open_one(
    serving, old, new, server
):
    certificate = plain(server)
    renewed = new.issue("server")
    with (
        serving(certificate) as target,
        grpc.secure_channel(target, trusting(old)) as open_channel,
    ):
        say = open_channel.unary_unary(ECHO)
        assert say(b"before", timeout=WAIT_SECONDS) == b"before"

        certificate.replace(TlsOptions(renewed.key, renewed.cert))

        assert say(b"after", timeout=WAIT_SECONDS) == b"after"
        assert call(target, trusting(new)) == b"hi"
        assert refusal(target, trusting(old)) is grpc.StatusCode.UNAVAILABLE


def test_a_client_of_a_former_ca_is_not_served_once_the_ca_is_replaced(
    serving, old, new, server, client
):
    certificate = mutual(server, old)
    with serving(certificate) as target:
        certificate.replace(TlsOptions(server.key, server.cert, new.cert, client_verify=True))

        assert refusal(target, trusting(old, client)) is grpc.StatusCode.UNAVAILABLE
        assert call(target, trusting(old, new.issue("client"))) == b"hi"


def test_a_new_certificate_of_no_use_changes_nothing(serving, old, server, client):
    certificate = plain(server)
    with serving(certificate) as target:
        with pytest.raises(InvalidArgument):
            certificate.replace(TlsOptions(client.key, server.cert))

        assert call(target, trusting(old)) == b"hi"


def test_whether_clients_are_verified_cannot_change_while_ports_are_open(old, server):
    certificate = mutual(server, old)

    with pytest.raises(InvalidArgument, match="client_verify cannot change"):
        certificate.replace(TlsOptions(server.key, server.cert, old.cert))

    assert certificate.options.client_verify


@pytest.mark.parametrize(
    "options",
    [
        lambda server, client: TlsOptions("no PEM", "no PEM"),
        lambda server, client: TlsOptions(server.key, "no PEM"),
        lambda server, client: TlsOptions(client.key, server.cert),
        lambda server, client: TlsOptions(server.key, server.cert, "no PEM", client_verify=True),
    ],
    ids=["no PEM", "no certificate", "another's key", "no CA"],
)
def test_a_key_and_certificate_of_no_use_are_refused_in_clear_words(server, client, options):
    with pytest.raises(InvalidArgument) as caught:
        Certificate(options(server, client))

    assert caught.value.message == (
        "TLS cannot use server_key, server_cert or custom_ca: they must be PEM texts, and the "
        "certificate must be the key's"
    )


def test_with_good_credentials_a_port_in_use_is_what_the_error_says(serving, grpc_engine, server):
    with serving(plain(server)) as target:
        address = f"127.0.0.1:{target.partition(':')[2]}"
        options = GrpcOptions(engine=grpc_engine, address=address)
        second = GrpcServer(options, {}, certificate=plain(server))
        with pytest.raises(Unavailable, match=address):
            second.start()


def test_the_key_does_not_show_in_the_options_text(server):
    assert "PRIVATE KEY" not in repr(TlsOptions(server.key, "cert"))
