"""First contact: whom jitctl trusts before and after it knows the service."""

import hashlib
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import CODE, PASSWORD, FakeService

from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem, make_authority, server_context
from jitgate.core.clock import system_clock

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

Login = Callable[..., tuple[int, str, str]]


class TlsService(FakeService):
    """With a TLS authority of its own, as `jitgate init` makes one."""

    def __init__(self, folder: Path) -> None:
        settings = Settings(state=folder, url="https://127.0.0.1:1")
        folder.mkdir(mode=0o700)
        make_authority(settings, system_clock())
        super().__init__(server_context(settings, system_clock()))
        self.authority = authority_pem(settings)
        self.instead["GET /.well-known/jitgate/tls-ca"] = lambda _: (200, self.authority)

    @property
    def pin(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.authority.decode())).hexdigest()


@pytest.fixture
def tls_service(tmp_path: Path) -> Iterator[TlsService]:
    service = TlsService(tmp_path / "service")
    yield service
    service.stop()


@pytest.fixture
def other(tmp_path: Path) -> Iterator[TlsService]:
    service = TlsService(tmp_path / "other")
    yield service
    service.stop()


@pytest.fixture
def login(machine: Machine) -> Login:
    def run(url: str, *more: str) -> tuple[int, str, str]:
        given = ("--user", "alice", "--password-file", "-", "--code", CODE)
        return machine.jitctl("login", url, *given, *more, stdin=f"{PASSWORD}\n".encode())

    return run


def secrets_seen(service: FakeService) -> bool:
    return any(PASSWORD.encode() in body or "Authorization" in headers for _, _, headers, body in service.requests)


def test_a_pin_is_enough_and_is_kept(machine: Machine, login: Login, tls_service: TlsService):
    status, _, err = login(f"{tls_service.url}/#sha256={tls_service.pin.upper()}")
    assert status == 0, err
    assert machine.jitctl("vm", "ls")[0] == 0
    assert login(tls_service.url)[0] == 0  # the next time without it
    assert (machine.state / "tls-ca.pem").read_bytes() == tls_service.authority
    assert "pinned = true" in (machine.config / "config.toml").read_text()


def test_without_a_pin_only_public_trust_counts(login: Login, tls_service: TlsService):
    status, _, err = login(tls_service.url)
    assert status == 8
    assert "is not trusted" in err
    assert "hint: use the address with the fingerprint" in err
    assert not secrets_seen(tls_service)


def test_another_authority_than_the_pinned_one_gets_nothing(
    machine: Machine, login: Login, tls_service: TlsService, other: TlsService
):
    status, _, err = login(f"{other.url}#sha256={tls_service.pin}")
    assert status == 1
    assert f"is not the one you were told of: sha256={other.pin}" in err
    assert not secrets_seen(other)
    assert not (machine.state / "tls-ca.pem").exists()


def test_showing_the_right_authority_without_its_key_is_not_enough(
    login: Login, tls_service: TlsService, other: TlsService
):
    """Anybody can copy the authority's certificate; they cannot make the connection under it."""
    other.authority = tls_service.authority
    status, _, err = login(f"{other.url}#sha256={tls_service.pin}")
    assert status == 8
    assert "is not trusted" in err
    assert not secrets_seen(other)


def test_who_takes_the_pinned_services_place_gets_nothing(
    machine: Machine, login: Login, tls_service: TlsService, other: TlsService
):
    assert login(f"{tls_service.url}#sha256={tls_service.pin}")[0] == 0
    config = machine.config / "config.toml"
    config.write_text(config.read_text().replace(tls_service.url, other.url))
    status, _, _ = machine.jitctl("vm", "ls")
    assert status == 8
    assert not other.requests


@pytest.mark.parametrize("content", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n", b"<html>", b"\xff" * 100])
def test_an_authority_that_is_none(login: Login, tls_service: TlsService, content: bytes):
    tls_service.instead["GET /.well-known/jitgate/tls-ca"] = lambda _: (200, content)
    status, _, err = login(f"{tls_service.url}#sha256={tls_service.pin}")
    assert status == 1
    assert "offers no TLS authority of its own" in err


def test_a_lost_trust_anchor_is_not_replaced_by_public_trust(machine: Machine, login: Login, tls_service: TlsService):
    assert login(f"{tls_service.url}#sha256={tls_service.pin}")[0] == 0
    (machine.state / "tls-ca.pem").unlink()
    status, _, err = machine.jitctl("vm", "ls")
    assert status == 6
    assert "tls-ca.pem" in err
