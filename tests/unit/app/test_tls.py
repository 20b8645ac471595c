"""The self-made TLS authority: vouches for our own names, renews in time, and its files are nobody else's."""

import datetime as dt
import hashlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem, load_certificate, login_url, make_authority, server_context, tls_folder
from jitgate.core.clock import DAY, system_clock
from jitgate.core.errors import Unsafe

NOW = system_clock()  # OpenSSL knows no other clock


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    chosen = Settings(state=tmp_path, url="https://jit.example.com:8443", other_urls=("https://192.0.2.1",))
    make_authority(chosen, NOW)
    return chosen


def served(context: ssl.SSLContext, settings: Settings, name: str = "jit.example.com") -> x509.Certificate:
    """The certificate that a client that trusts the authority accepts under this name."""
    client = ssl.create_default_context(cadata=authority_pem(settings).decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    mine = client.wrap_bio(back, there, server_hostname=name)
    theirs = context.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for side in (mine, theirs):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    shown = mine.getpeercert(binary_form=True)
    assert shown is not None
    return x509.load_der_x509_certificate(shown)


def test_it_is_trusted_for_our_names_and_no_other(settings: Settings):
    context = server_context(settings, NOW)
    for name in ("jit.example.com", "192.0.2.1"):
        served(context, settings, name)
    for name in ("example.com", "evil.jit.example.com", "192.0.2.2"):
        with pytest.raises(ssl.SSLCertVerificationError):
            served(context, settings, name)


def test_what_the_authority_signs_for_another_name_is_not_trusted(settings: Settings, tmp_path: Path):
    """Whoever has its key can pose as this service and as nobody else: the name constraint is critical."""
    other = Settings(state=tmp_path, url="https://bank.example.com")
    context = server_context(other, NOW)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        served(context, settings, "bank.example.com")


def test_the_login_url_names_the_authority(settings: Settings):
    der = x509.load_pem_x509_certificate(authority_pem(settings)).public_bytes(serialization.Encoding.DER)
    assert login_url(settings) == f"https://jit.example.com:8443#sha256={hashlib.sha256(der).hexdigest()}"
    public = Settings(state=settings.state, url="https://jit.example.com", tls_certificate="x", tls_key="y")
    assert login_url(public) == "https://jit.example.com"


def test_a_certificate_is_kept_until_it_is_due_and_then_renewed_while_serving(settings: Settings):
    context = server_context(settings, NOW)
    first = served(context, settings)
    load_certificate(context, settings, NOW + 59 * DAY)
    assert served(context, settings) == first
    load_certificate(context, settings, NOW + 61 * DAY)
    with pytest.raises(ssl.SSLCertVerificationError, match="not yet valid"):  # it begins in 61 days
        served(context, settings)
    renewed = x509.load_pem_x509_certificate((tls_folder(settings) / "server.pem").read_bytes())
    assert renewed.not_valid_after_utc - first.not_valid_after_utc == dt.timedelta(days=61)
    assert renewed.public_key() != first.public_key()


def test_it_never_outlives_its_authority(settings: Settings):
    server_context(settings, NOW + 3640 * DAY)
    authority = x509.load_pem_x509_certificate(authority_pem(settings))
    last = x509.load_pem_x509_certificate((tls_folder(settings) / "server.pem").read_bytes())
    assert last.not_valid_after_utc == authority.not_valid_after_utc


def test_all_files_are_the_owners(settings: Settings):
    server_context(settings, NOW)
    assert tls_folder(settings).stat().st_mode & 0o777 == 0o700
    assert {path.name for path in tls_folder(settings).iterdir()} == {"ca.key", "ca.pem", "server.key", "server.pem"}
    assert {path.stat().st_mode & 0o777 for path in tls_folder(settings).iterdir()} == {0o600}


@pytest.mark.parametrize("name", ["ca.key", "ca.pem", "server.key", "server.pem"])
def test_a_damaged_file_is_refused_and_the_old_certificate_served_on(settings: Settings, name: str):
    context = server_context(settings, NOW)
    first = served(context, settings)
    path = tls_folder(settings) / name
    kept = path.read_bytes()
    for bad in (b"garbage", b"", kept[: len(kept) // 2]):
        path.write_bytes(bad)
        when = NOW + 61 * DAY if name.startswith("ca") else NOW  # an authority is needed when a renewal is due
        with pytest.raises(Unsafe):
            load_certificate(context, settings, when)
        path.write_bytes(kept)
    assert served(context, settings) == first


def test_a_key_of_another_certificate_or_that_others_can_read_is_refused(settings: Settings, tmp_path: Path):
    context = server_context(settings, NOW)
    key = tls_folder(settings) / "server.key"
    key.chmod(0o640)
    with pytest.raises(Unsafe, match="can be read by others"):
        load_certificate(context, settings, NOW)
    key.chmod(0o600)
    key.write_bytes((tls_folder(settings) / "ca.key").read_bytes())
    with pytest.raises(Unsafe, match="no certificate with its key"):
        load_certificate(context, settings, NOW)
    own = Settings(state=tmp_path, url=settings.url, tls_certificate=str(key), tls_key=str(key))
    with pytest.raises(Unsafe):
        server_context(own, NOW)
