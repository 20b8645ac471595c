"""Keys in the transit engine of an OpenBao or a Vault: a few calls of its HTTP API, by the standard library alone.

Synchronous, as the signer is, and with a connection that stays open. A key there has versions: the one that was found
when the key was taken up is named in each request, so that a rotation inside the engine changes nothing here.
"""

import base64
import http.client
import json
import os
import ssl
import time
from contextlib import suppress
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from jitgate.adapters.custody.port import deadline
from jitgate.adapters.secret_file import read_secret
from jitgate.ca.places import TransitPlace
from jitgate.core.errors import BadInput, Conflict, Error, NotFound, Unreachable, Unsafe
from jitgate.core.text import shown
from jitgate.ssh.private import SoftwareKey, dump_pkcs8
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key, parse_public_key_line
from jitgate.ssh.signature import ECDSA_HASHES
from jitgate.ssh.wire import put_mpint, put_string, to_base64

RENEW_S: Final = 60.0  # between looks at the life of our token
MAKE_S: Final = 60.0  # for a new RSA key in the engine: its own wrapping key is one of 4096 bits
ANSWER_MAX: Final = 64 * 1024  # bytes; a key with a hundred versions has twenty thousand
_TYPES: Final = {
    Algorithm.ED25519: "ed25519",
    Algorithm.ECDSA_256: "ecdsa-p256",
    Algorithm.ECDSA_384: "ecdsa-p384",
    Algorithm.ECDSA_521: "ecdsa-p521",
    Algorithm.RSA: "rsa-3072",
}
_RSA_SIGNATURE: Final = "rsa-sha2-512"
_RSA_TYPES: Final = {3072: "rsa-3072", 4096: "rsa-4096"}
_OK, _REFUSED, _GONE = 200, 403, 404
_Json = dict[str, Any]


class Transit:
    """One engine and our token for it, read from its file each time: another program may keep it fresh."""

    def __init__(self, place: TransitPlace) -> None:
        self._place = place
        self._connection: http.client.HTTPConnection | None = None
        self._renew_at = 0.0

    def key(self, name: str) -> "TransitKey":
        self._keep_token()
        name, _, wanted = name.partition(":")
        found = self._ask("GET", f"keys/{name}")["data"]
        try:
            version = wanted or str(found["latest_version"])
            if version not in found["keys"]:
                raise NotFound(f"the key {name} has no version {version}", f"bao read {self._place.mount}/keys/{name}")
            public = public_of(name, found["type"], found["keys"][version].get("public_key"))
            return TransitKey(self, name, int(version), public)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unsafe(f"the key {name} is of a kind that SSH has not", "ed25519, ecdsa-p256, rsa-3072") from None

    def make(self, name: str, algorithm: Algorithm) -> PublicKey:
        self._check_free(name)
        if algorithm not in _TYPES:
            raise BadInput(f"no {algorithm} key in a transit engine", "ssh-ed25519, ecdsa-sha2-nistp256 or ssh-rsa")
        self._ask("POST", f"keys/{name}", {"type": _TYPES[algorithm]}, seconds=MAKE_S)
        return self.key(name).public

    def put(self, name: str, key: SoftwareKey) -> None:
        """Wrapped for the engine's own key (RSA-OAEP around AES-KWP, RFC 5649), as its `import` takes it."""
        self._check_free(name)
        kind = _TYPES[key.public.algorithm]
        private = serialization.load_der_private_key(dump_pkcs8(key).reveal(), None)
        if isinstance(private, rsa.RSAPrivateKey) and (kind := _RSA_TYPES.get(private.key_size, "")) == "":
            raise BadInput(f"a transit engine takes no RSA key of {private.key_size} bits", "3072 or 4096")
        wrapping = self._ask("GET", "wrapping_key", seconds=MAKE_S)["data"]["public_key"]
        theirs = serialization.load_pem_public_key(wrapping.encode())
        if not isinstance(theirs, rsa.RSAPublicKey):
            raise Unsafe("the engine's wrapping key is no RSA key")
        once = os.urandom(32)
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
        wrapped = theirs.encrypt(once, oaep) + aes_key_wrap_with_padding(once, dump_pkcs8(key).reveal())
        body = {"type": kind, "hash_function": "SHA256", "ciphertext": to_base64(wrapped)}
        self._ask("POST", f"keys/{name}/import", body)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(OSError):
                connection.close()

    def sign(self, name: str, version: int, algorithm: Algorithm, data: bytes) -> bytes:
        body: _Json = {"input": to_base64(data), "key_version": version}
        if algorithm is Algorithm.RSA:
            body |= {"hash_algorithm": "sha2-512", "signature_algorithm": "pkcs1v15"}
        elif algorithm is not Algorithm.ED25519:
            body |= {"hash_algorithm": f"sha2-{ECDSA_HASHES[algorithm].digest_size * 8}"}
            body |= {"marshaling_algorithm": "asn1"}
        answer = self._ask("POST", f"sign/{name}", body)
        try:
            value = base64.b64decode(answer["data"]["signature"].rpartition(":")[2], validate=True)
            if algorithm is Algorithm.RSA:
                return put_string(_RSA_SIGNATURE) + put_string(value)
            if algorithm is Algorithm.ED25519:
                return put_string(algorithm) + put_string(value)
            numbers = decode_dss_signature(value)
            return put_string(algorithm) + put_string(b"".join(map(put_mpint, numbers)))
        except (KeyError, TypeError, ValueError, AttributeError):
            raise Unreachable("the transit engine answers with something else than a signature") from None

    def _keep_token(self) -> None:
        """Give our token its whole life again before half of it is over. Where it may not be renewed somebody else puts
        another one into its file.
        """
        if time.monotonic() < self._renew_at:
            return
        self._renew_at = time.monotonic() + RENEW_S
        with suppress(Error):
            found = self._ask("GET", "/auth/token/lookup-self")["data"]
            if found["renewable"] and found["ttl"] * 2 < found["creation_ttl"]:
                self._ask("POST", "/auth/token/renew-self", {})

    def _check_free(self, name: str) -> None:
        try:
            self._ask("GET", f"keys/{name}")
        except NotFound:
            return
        raise Conflict(f"the transit engine has a key {name} already", "choose another --name")

    def _ask(self, method: str, path: str, body: _Json | None = None, *, seconds: float = 0) -> _Json:
        """The answer, within the time for a signature or `seconds`. A path that begins with / is not the mount's."""
        place = self._place
        seconds = seconds or place.timeout_ms / 1000
        url = f"/v1{path}" if path.startswith("/") else f"/v1/{place.mount}/{path}"
        headers = {"x-vault-request": "true", "x-vault-token": read_secret(place.token_file).reveal()}
        if place.namespace:
            headers["x-vault-namespace"] = place.namespace
        try:
            with deadline(seconds):
                try:
                    status, content = self._send(method, url, body, headers)
                except (http.client.RemoteDisconnected, ConnectionError):  # it stood idle for too long
                    status, content = self._send(method, url, body, headers)
            found = json.loads(content) if content else {}
        except TimeoutError:
            self.close()
            raise Unreachable(f"the transit engine does not answer within {seconds:g} s", _LOST) from None
        except (OSError, http.client.HTTPException, ValueError, RecursionError) as error:
            self.close()
            words = f"{type(error).__name__}: {shown(str(error), 160)}"
            raise Unreachable(f"the transit engine at {place.address}: {words}", _LOST) from None
        if not isinstance(found, dict) or status != _OK:
            if status in {200, 204}:
                return {}
            raise _refused(status, found, method, path)
        return found

    def _send(self, method: str, url: str, body: _Json | None, headers: dict[str, str]) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = _connect(self._place)
        try:
            self._connection.request(method, url, json.dumps(body) if body is not None else None, headers)
            answer = self._connection.getresponse()
            content = answer.read(ANSWER_MAX + 1)
        except BaseException:
            self.close()
            raise
        if len(content) > ANSWER_MAX:
            raise ValueError(f"an answer of more than {ANSWER_MAX} bytes")
        return answer.status, content


class TransitKey:
    """One version of a key of the engine."""

    def __init__(self, transit: Transit, name: str, version: int, public: PublicKey) -> None:
        self._transit, self._name, self._version = transit, name, version
        self.public: PublicKey = public

    def sign(self, data: bytes) -> bytes:
        return self._transit.sign(self._name, self._version, self.public.algorithm, data)


_LOST: Final = "is it running, unsealed, and `address` and `ca_file` of [transit] right?"


def _connect(place: TransitPlace) -> http.client.HTTPConnection:
    parts = urlsplit(place.address)
    assert parts.hostname is not None  # noqa: S101  # checked when signer.toml was read
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=MAKE_S)
    context = ssl.create_default_context(cafile=place.ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=MAKE_S, context=context)


def _refused(status: int, found: object, method: str, path: str) -> Error:
    errors = found.get("errors") if isinstance(found, dict) else None
    words = shown(str(errors[0]).strip(), 160) if isinstance(errors, list) and errors else ""
    what = f"the transit engine answers {status} to {method} {path}: {words}".rstrip(": ")
    if status == _GONE:
        return NotFound(what, "bao list transit/keys")
    if status == _REFUSED:
        return Unreachable(what, "is the token in token_file still good, and its policy right? docs/custody.md")
    return Unreachable(what, _LOST)


def public_of(name: str, kind: object, text: object) -> PublicKey:
    """The public half as the engine shows it: 32 bytes of base64, or PEM. `Unsafe` for everything else."""
    try:
        if kind == "ed25519" and isinstance(text, str):
            blob = put_string(Algorithm.ED25519) + put_string(base64.b64decode(text, validate=True))
            return parse_public_key(blob)
        if kind in {*_TYPES.values(), *_RSA_TYPES.values()} and isinstance(text, str):
            loaded = serialization.load_pem_public_key(text.encode())
            line = loaded.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
            return parse_public_key_line(line.decode())[0]
    except (ValueError, UnsupportedAlgorithm):
        pass
    raise Unsafe(f"the key {name} is of a kind that SSH has not", "ed25519, ecdsa-p256, rsa-3072")
