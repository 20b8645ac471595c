"""A real OpenBao for tests: one a test run, with raft storage and TLS, which tests share; and one to be stopped."""

import datetime as dt
import ipaddress
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from jitgate.adapters.vault.settings import KeysSettings
from jitgate.app.demo.openbao import OpenBao, Prepared, open_bao, prepare_registry


@contextmanager
def running_bao(folder: Path, *, port: int = 0) -> Iterator[OpenBao]:
    """Its certificate is its own authority."""
    tls = folder / "tls.pem", folder / "tls.key"
    if not tls[0].exists():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _make_certificate(*tls)
    with open_bao(folder, port=port, tls=(*tls, tls[0])) as bao:
        yield bao


def settings_of(prepared: Prepared, **changes: object) -> KeysSettings:
    return replace(KeysSettings(**dict(prepared.settings)), **changes)  # type: ignore[arg-type]  # a test's own words


def registry_for(bao: OpenBao, folder: Path, **changes: object) -> KeysSettings:
    """Settings of a service in this OpenBao, under a prefix of its own."""
    return settings_of(prepare_registry(bao, folder), **changes)


def _make_certificate(certificate: Path, key_file: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "OpenBao of a test")])
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, *private))
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
