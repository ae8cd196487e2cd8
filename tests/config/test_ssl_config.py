"""The SSLConfig file is followed while the server runs."""

from contextlib import ExitStack

import pytest
from certificates import Authority, Pair, ssl_config

from serving.config.ssl_config import read_ssl_config, watch_ssl_config
from serving.testing import FakeClock
from serving.transport.tls import Certificate

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
    certificate = Certificate(read_ssl_config(str(file)))
    with ExitStack() as running:
        watch_ssl_config(str(file), certificate, LOOK_SECONDS, clock, running)
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
    assert caplog.text.count("the SSL config file was not applied: INVALID_ARGUMENT") == 1


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
    certificate = Certificate(read_ssl_config(str(file)))
    with ExitStack() as running:
        watch_ssl_config(str(file), certificate, 0, clock, running)
        with pytest.raises(AssertionError):
            clock.await_waiters()
