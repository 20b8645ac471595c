"""The self-made TLS authority of an installation without public certificates.

The SHA-256 of its certificate stands in the login URL (`https://HOST#sha256=...`): who has the URL from somebody they
trust needs no other trust. The authority can only vouch for the names of this service (a critical name constraint).
"""

import datetime as dt
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from jitgate.app.settings import Settings
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import Unsafe

CA_LIFETIME = dt.timedelta(days=3650)
LIFETIME = dt.timedelta(days=90)
RENEW_BEFORE = dt.timedelta(days=30)
BACKDATE = dt.timedelta(minutes=5)  # for clients whose clock is a little behind


def tls_folder(settings: Settings) -> Path:
    return settings.state / "tls"


def make_authority(settings: Settings, now: Micros) -> None:
    """Write `tls/ca.pem` and `tls/ca.key` for the names in the settings' addresses."""
    folder = tls_folder(settings)
    folder.mkdir(mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jitgate self-made TLS authority")])
    moment = dt.datetime.fromtimestamp(now // SECOND, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATE)
        .not_valid_after(moment + CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.NameConstraints(_constraints(settings), None), critical=True)
        .sign(key, hashes.SHA256())
    )
    write_secret(folder / "ca.key", _key_pem(key))
    write_secret(folder / "ca.pem", certificate.public_bytes(serialization.Encoding.PEM))


def server_context(settings: Settings, now: Micros) -> ssl.SSLContext:
    """The context that serves HTTPS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_certificate(context, settings, now)
    return context


def load_certificate(context: ssl.SSLContext, settings: Settings, now: Micros) -> None:
    """Serve from now on what the files hold. A self-made certificate is made or renewed here when it is due.

    Raises `Unsafe` for files that others can read, or that are damaged; then what was served before is served on.
    """
    if settings.self_made_tls:
        chain, key = tls_folder(settings) / "server.pem", tls_folder(settings) / "server.key"
        try:
            if _is_due(chain, now):
                _make_server_certificate(settings, now)
        except ValueError:
            raise Unsafe(f"a file in {tls_folder(settings)} is damaged", "put the folder back from a backup") from None
    else:
        chain, key = Path(settings.tls_certificate), Path(settings.tls_key)
    if key.stat().st_mode & 0o077:
        raise Unsafe(f"{key} can be read by others", f"chmod 600 {key}")
    try:
        context.load_cert_chain(chain, key)
    except ssl.SSLError as error:
        raise Unsafe(f"{chain} and {key} are no certificate with its key: {error.reason}", "are both whole?") from None


def login_url(settings: Settings) -> str:
    """What a person gives to `jitctl login`: the address, with the authority's fingerprint where it is self-made."""
    if not settings.self_made_tls or settings.url.startswith("http:"):
        return settings.url
    certificate = x509.load_pem_x509_certificate(authority_pem(settings))
    der = certificate.public_bytes(serialization.Encoding.DER)
    return f"{settings.url}#sha256={hashlib.sha256(der).hexdigest()}"


def authority_pem(settings: Settings) -> bytes:
    return (tls_folder(settings) / "ca.pem").read_bytes()


def write_secret(path: Path, content: bytes) -> None:
    """A new file, 0600, complete or not there; an existing one is replaced whole."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def _make_server_certificate(settings: Settings, now: Micros) -> None:
    folder = tls_folder(settings)
    authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    if not isinstance(authority_key, ec.EllipticCurvePrivateKey):
        raise Unsafe(f"{folder / 'ca.key'} is not the key that jitgate init wrote")
    key = ec.generate_private_key(ec.SECP256R1())
    moment = dt.datetime.fromtimestamp(now // SECOND, dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "jitgate")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(moment - BACKDATE)
        .not_valid_after(min(moment + LIFETIME, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(_names(settings)), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_secret(folder / "server.key", _key_pem(key))
    write_secret(folder / "server.pem", certificate.public_bytes(serialization.Encoding.PEM))


def _is_due(chain: Path, now: Micros) -> bool:
    if not chain.exists():
        return True
    ends = x509.load_pem_x509_certificate(chain.read_bytes()).not_valid_after_utc
    return ends - RENEW_BEFORE < dt.datetime.fromtimestamp(now // SECOND, dt.UTC)


def _hosts(settings: Settings) -> list[str]:
    hosts = [urlsplit(url).hostname or "" for url in (settings.url, *settings.other_urls)]
    return list(dict.fromkeys(hosts))


def _names(settings: Settings) -> list[x509.GeneralName]:
    return [
        x509.DNSName(host) if (address := _as_ip(host)) is None else x509.IPAddress(address)
        for host in _hosts(settings)
    ]


def _constraints(settings: Settings) -> Iterable[x509.GeneralName]:
    return [
        x509.DNSName(host) if (address := _as_ip(host)) is None else x509.IPAddress(ipaddress.ip_network(address))
        for host in _hosts(settings)
    ]


def _as_ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
