"""A peer that issues SSH certificates: step-ca with its badger database and one-time tokens, over TLS."""

import base64
import datetime as dt
import json
import secrets
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from jitgate.app.demo.daemon import free_port
from jitgate.ssh.private import generate_ed25519

PATIENCE_S = 30
NAME = "step-ca, badger, TLS"
PROVISIONER = "bench"

_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class StepCa:
    port: int
    pid: int
    trust: ssl.SSLContext
    key: ec.EllipticCurvePrivateKey

    def sign_requests(self, count: int) -> list[bytes]:
        """Each with a token of its own: step-ca takes each one once."""
        blob = base64.b64encode(generate_ed25519().public.blob).decode()
        return [self._sign_request(blob) for _ in range(count)]

    def _sign_request(self, blob: str) -> bytes:
        now = int(time.time())
        ssh = {"certType": "user", "keyID": "alice", "principals": ["ubuntu"]}
        claims = {
            "iss": PROVISIONER,
            "sub": "alice",
            "aud": f"https://127.0.0.1:{self.port}/1.0/ssh/sign",
            "iat": now,
            "nbf": now - 5,
            "exp": now + 600,
            "jti": secrets.token_hex(16),
            "step": {"ssh": ssh},
        }
        token = jwt.encode(claims, self.key, "ES256", headers={"kid": PROVISIONER})
        body = json.dumps({"publicKey": blob, "ott": token, **ssh}).encode()
        head = "POST /1.0/ssh/sign HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
        return head.encode() + f"content-length: {len(body)}\r\n\r\n".encode() + body


@contextmanager
def step_ca(program: Path, folder: Path) -> Iterator[StepCa]:
    """A running CA with a JWK provisioner. `folder`: an empty one."""
    port, key = free_port(), ec.generate_private_key(ec.SECP256R1())
    config = folder / "ca.json"
    config.write_text(json.dumps(_config(folder, port, key)))
    with (folder / "step-ca.log").open("wb") as log:
        process = subprocess.Popen([program, config], stdout=log, stderr=log, cwd=folder)
    try:
        trust = ssl.create_default_context(cafile=folder / "root.crt")
        _wait(port, trust, process, folder / "step-ca.log")
        yield StepCa(port, process.pid, trust, key)
    finally:
        process.terminate()
        process.wait()


def _wait(port: int, trust: ssl.SSLContext, process: subprocess.Popen[bytes], log: Path) -> None:
    import http.client  # noqa: PLC0415  # this file's own need

    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            connection = http.client.HTTPSConnection("127.0.0.1", port, context=trust, timeout=5)
            connection.request("GET", "/health")
            connection.getresponse().read()
            connection.close()
            break
        except OSError:
            if time.monotonic() > until or process.poll() is not None:
                raise AssertionError(f"step-ca did not start:\n{log.read_text()}") from None
            time.sleep(0.1)
    time.sleep(1)  # it takes no token that was made before it was there, by its clock of seconds


def _config(folder: Path, port: int, key: ec.EllipticCurvePrivateKey) -> dict[str, object]:
    _certificates(folder)
    for name in ("ssh_host_ca", "ssh_user_ca"):
        _write_key(folder / name, ed25519.Ed25519PrivateKey.generate())
    numbers = key.public_key().public_numbers()
    point = {name: _base64(value.to_bytes(32, "big")) for name, value in (("x", numbers.x), ("y", numbers.y))}
    jwk = {"use": "sig", "kty": "EC", "kid": PROVISIONER, "crv": "P-256", "alg": "ES256", **point}
    claims = {"enableSSHCA": True}
    return {
        "root": str(folder / "root.crt"),
        "crt": str(folder / "intermediate.crt"),
        "key": str(folder / "intermediate.key"),
        "address": f"127.0.0.1:{port}",
        "dnsNames": ["127.0.0.1"],
        "ssh": {"hostKey": str(folder / "ssh_host_ca"), "userKey": str(folder / "ssh_user_ca")},
        "logger": {"format": "text"},
        "db": {"type": "badgerv2", "dataSource": str(folder / "db")},
        "authority": {"provisioners": [{"type": "JWK", "name": PROVISIONER, "key": jwk, "claims": claims}]},
    }


def _certificates(folder: Path) -> None:
    """A root and an intermediate, from which step-ca makes its own TLS certificate."""
    root, intermediate = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    made = _certificate("root", root, "root", root, length=1)
    (folder / "root.crt").write_bytes(made)
    (folder / "intermediate.crt").write_bytes(_certificate("intermediate", intermediate, "root", root, length=0))
    _write_key(folder / "intermediate.key", intermediate)


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, *, length: int
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key())
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(identifier, critical=False)
    )
    return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)


def _write_key(file: Path, key: _Key) -> None:
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    file.chmod(0o600)


def _base64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
