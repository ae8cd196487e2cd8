"""The files of TLS are read in either form, and followed while the server runs."""

from contextlib import ExitStack

import pytest
from certificates import Authority, Pair, ssl_config

from serving.config.tls_files import TlsFiles, watch_tls_files
from serving.core.errors import InvalidArgument, NotFound
from serving.testing import FakeClock
from serving.transport.tls import Certificate, TlsOptions

LOOK_SECONDS = 60
SETTLE_SECONDS = 1


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def first(authority):
    return authority.issue("first")


@pytest.fixture
def file(tmp_path, first):
    path = tmp_path / "ssl.config"
    path.write_text(ssl_config(first))
    return path


@pytest.fixture
def watched(file):
    """The certificate of the file, which is watched, and the clock that it is watched by."""
    clock = FakeClock()
    certificate = Certificate(TlsFiles(str(file)).read())
    with ExitStack() as running:
        watch_tls_files(TlsFiles(str(file)), certificate, LOOK_SECONDS, clock, running)
        clock.await_waiters(within_seconds=LOOK_SECONDS)
        yield certificate, clock


def look(clock, *, changed):
    """Returns when a look that begins now is over."""
    clock.advance(LOOK_SECONDS)
    if changed:
        clock.await_waiters(within_seconds=SETTLE_SECONDS)
        clock.advance(SETTLE_SECONDS)
    clock.await_waiters(within_seconds=LOOK_SECONDS)


def test_a_certificate_renewed_in_the_file_is_shown(watched, file, authority):
    certificate, clock = watched
    renewed = authority.issue("renewed")
    file.write_text(ssl_config(renewed))

    look(clock, changed=True)

    assert certificate.options.server_cert == renewed.cert


def test_a_bad_file_is_logged_once_and_the_certificate_stays(watched, file, first, caplog):
    certificate, clock = watched
    file.write_text("server_key: 'half")

    look(clock, changed=False)
    look(clock, changed=False)

    assert certificate.options.server_cert == first.cert
    assert caplog.text.count("was not applied: INVALID_ARGUMENT") == 1


def test_a_certificate_of_another_key_is_logged_once_and_the_old_one_stays(
    watched, file, first, authority, caplog
):
    certificate, clock = watched
    other = authority.issue("other")
    file.write_text(ssl_config(Pair(first.key_file, other.cert_file)))

    look(clock, changed=True)
    look(clock, changed=True)

    assert certificate.options.server_cert == first.cert
    assert caplog.text.count("the certificate must be the key's") == 1


def test_without_an_interval_the_file_is_read_no_more(file, first):
    clock = FakeClock()
    certificate = Certificate(TlsFiles(str(file)).read())
    with ExitStack() as running:
        watch_tls_files(TlsFiles(str(file)), certificate, 0, clock, running)
        with pytest.raises(AssertionError):
            clock.await_waiters()


def test_a_key_and_a_certificate_may_be_files_of_their_own(first, authority):
    key, cert, ca = str(first.key_file), str(first.cert_file), str(authority.cert_file)

    assert TlsFiles(key=key, certificate=cert).read() == TlsOptions(first.key, first.cert)
    assert TlsFiles("", key, cert, ca).read() == TlsOptions(
        first.key, first.cert, authority.cert, client_verify=True
    )
    assert TlsFiles().read() is None


def test_a_missing_key_file_is_not_found(first):
    with pytest.raises(NotFound, match="/none"):
        TlsFiles(key="/none", certificate=str(first.cert_file)).read()


def test_a_file_that_is_no_text_is_refused(tmp_path, first):
    der = tmp_path / "der"
    der.write_bytes(b"\x30\x82\xff")

    with pytest.raises(InvalidArgument, match=r"Invalid PEM file: .*der': not UTF-8 text"):
        TlsFiles(key=str(first.key_file), certificate=str(der)).read()


def test_a_key_and_a_certificate_renewed_in_their_files_are_shown(tmp_path, authority):
    key, cert = tmp_path / "tls.key", tmp_path / "tls.crt"
    before, after = authority.issue("before"), authority.issue("after")
    key.write_text(before.key)
    cert.write_text(before.cert)
    files, clock = TlsFiles(key=str(key), certificate=str(cert)), FakeClock()
    certificate = Certificate(files.read())
    with ExitStack() as running:
        watch_tls_files(files, certificate, LOOK_SECONDS, clock, running)
        clock.await_waiters(within_seconds=LOOK_SECONDS)

        key.write_text(after.key)  # and the certificate is still the former key's
        look(clock, changed=True)
        assert certificate.options.server_key == before.key

        cert.write_text(after.cert)
        look(clock, changed=True)
        assert certificate.options == TlsOptions(after.key, after.cert)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (("s", "k", "c"), "ssl_config_file cannot be set together with"),
        (("", "k", ""), "ssl_key_file and ssl_certificate_file must be set together"),
        (("", "", "c"), "ssl_key_file and ssl_certificate_file must be set together"),
        (("", "", "", "a"), "ssl_client_ca_file is set without setting"),
    ],
)
def test_half_of_a_form_or_both_are_refused(files, message):
    with pytest.raises(InvalidArgument, match=message):
        TlsFiles(*files)
