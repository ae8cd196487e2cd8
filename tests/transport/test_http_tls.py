"""HTTPS, with and without certificates of clients; real handshakes on loopback."""

import contextlib
import http.client
import socket
import ssl
import threading

import pytest
from waiting import WAIT_SECONDS

from serving.transport.http_options import ENGINES, HttpOptions
from serving.transport.http_server import HttpServer
from serving.transport.tls import Certificate, TlsOptions

REFUSED = (ssl.SSLError, ConnectionError)
"""How a client learns of it, which depends on what reaches it first."""


async def hello(scope, receive, send):
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]}
    )
    await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@pytest.fixture(scope="module")
def server(old):
    return old.issue("server")


@pytest.fixture(params=ENGINES)
def serving(request):
    """Opens servers on the engine under test."""

    @contextlib.contextmanager
    def opened(certificate):
        options = HttpOptions("127.0.0.1", 0, engine=request.param)
        http_server = HttpServer(options, hello, certificate=certificate)
        http_server.start()
        try:
            yield http_server.port
        finally:
            http_server.stop(0)

    return opened


def connection(port, ca, pair=None):
    context = ssl.create_default_context(cafile=ca.cert_file)
    if pair:
        context.load_cert_chain(pair.cert_file, pair.key_file)
    return http.client.HTTPSConnection("localhost", port, timeout=WAIT_SECONDS, context=context)


def get(client):
    client.request("GET", "/")
    return client.getresponse().read()


def get_anew(port, ca, pair=None):
    with contextlib.closing(connection(port, ca, pair)) as client:
        return get(client)


def test_a_client_that_trusts_the_ca_is_served(serving, old, server):
    with serving(Certificate(TlsOptions(server.key, server.cert))) as port:
        assert get_anew(port, old) == b"https"


def test_a_client_without_tls_is_not_served(serving, server):
    with (
        serving(Certificate(TlsOptions(server.key, server.cert))) as port,
        contextlib.closing(
            http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
        ) as client,
        pytest.raises((http.client.HTTPException, ConnectionError)),
    ):
        get(client)


def test_no_disk_is_needed(monkeypatch, server):
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")

    Certificate(TlsOptions(server.key, server.cert))


def test_an_idle_connection_does_not_hold_up_the_stop(old, server):
    """Its client never closes its side of TLS, as one with a pool does not look at it."""
    certificate = Certificate(TlsOptions(server.key, server.cert))
    http_server = HttpServer(HttpOptions("127.0.0.1", 0), hello, certificate=certificate)
    http_server.start()
    with contextlib.closing(connection(http_server.port, old)) as client:
        get(client)
        stopping = threading.Thread(target=http_server.stop, args=(10 * WAIT_SECONDS,))
        stopping.start()
        stopping.join(WAIT_SECONDS)
        assert not stopping.is_alive()


def test_with_client_verify_only_clients_with_a_certificate_are_served(serving, old, server):
    certificate = Certificate(TlsOptions(server.key, server.cert, old.cert, client_verify=True))
    with serving(certificate) as port:
        assert get_anew(port, old, old.issue("client")) == b"https"
        with pytest.raises(REFUSED):
            get_anew(port, old)


def test_a_new_certificate_is_shown_to_new_connections_and_breaks_no_open_one(
    serving, old, new, server
):
    certificate = Certificate(TlsOptions(server.key, server.cert))
    renewed = new.issue("server")
    with serving(certificate) as port, contextlib.closing(connection(port, old)) as open_client:
        assert get(open_client) == b"https"

        certificate.replace(TlsOptions(renewed.key, renewed.cert))

        assert get(open_client) == b"https"
        assert get_anew(port, new) == b"https"
        with pytest.raises(ssl.SSLCertVerificationError):
            get_anew(port, old)


def test_a_client_of_a_former_ca_is_not_served_once_the_ca_is_replaced(serving, old, new, server):
    certificate = Certificate(TlsOptions(server.key, server.cert, old.cert, client_verify=True))
    with serving(certificate) as port:
        certificate.replace(TlsOptions(server.key, server.cert, new.cert, client_verify=True))

        assert get_anew(port, old, new.issue("client")) == b"https"
        with pytest.raises(REFUSED):
            get_anew(port, old, old.issue("client"))


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_session_of_a_former_ca_is_of_no_use_once_the_ca_is_replaced(
    serving, old, new, server, version
):
    """Who resumes a session shows no certificate again."""
    certificate = Certificate(TlsOptions(server.key, server.cert, old.cert, client_verify=True))
    pair = old.issue("client")
    context = ssl.create_default_context(cafile=old.cert_file)
    context.load_cert_chain(pair.cert_file, pair.key_file)
    context.maximum_version = version

    def get_with(port, session=None):
        with (
            socket.create_connection(("127.0.0.1", port), 20) as plain,
            context.wrap_socket(plain, server_hostname="localhost", session=session) as client,
        ):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = client.recv(65536)
            return answer.startswith(b"HTTP/1.1 200"), client.session

    with serving(certificate) as port:
        served, session = get_with(port)
        assert served
        certificate.replace(TlsOptions(server.key, server.cert, new.cert, client_verify=True))
        with contextlib.suppress(*REFUSED):
            served, _ = get_with(port, session)
            assert not served


def test_comments_of_any_language_may_stand_around_what_is_read(serving, old, server):
    comment = "# F\u0151tan\u00fas\u00edtv\u00e1ny\n"
    options = TlsOptions(
        comment + server.key, comment + server.cert, comment + old.cert, client_verify=True
    )
    with serving(Certificate(options)) as port:
        assert get_anew(port, old, old.issue("client")) == b"https"
