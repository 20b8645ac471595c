"""SSHSIG: signatures over messages by SSH keys (OpenSSH PROTOCOL.sshsig), as `ssh-keygen -Y sign` makes them."""

import hashlib
from functools import lru_cache
from typing import Final

from jitgate.core.text import shown
from jitgate.ssh.material import MAX_KEY
from jitgate.ssh.pubkey import BadSignature, PublicKey, parse_public_key
from jitgate.ssh.signature import MAX_SIGNATURE
from jitgate.ssh.wire import FormatError, Reader, from_base64, put_string, put_uint32, to_base64

__all__ = ["armor", "dearmor", "encode", "signed_bytes", "verify"]

MAX_BLOB: Final = MAX_KEY + MAX_SIGNATURE + 512
_MAGIC: Final = b"SSHSIG"
_BEGINNING: Final = _MAGIC + put_uint32(1)  # the version
_HASHES: Final = {"sha512": hashlib.sha512, "sha256": hashlib.sha256}
_BEGIN: Final = "-----BEGIN SSH SIGNATURE-----\n"
_END: Final = "\n-----END SSH SIGNATURE-----"
_WIDTH: Final = 70  # as ssh-keygen wraps


def signed_bytes(namespace: str, message: bytes) -> bytes:
    """What the key signs for `message`, by its SHA-512. The namespace keeps one use's signatures out of another's."""
    return _signed_bytes(namespace, "sha512", message)


def encode(key: PublicKey, namespace: str, signature: bytes) -> bytes:
    """The SSHSIG blob of an SSH signature blob that `key` made over `signed_bytes(namespace, ...)`."""
    return b"".join(
        (
            _BEGINNING,
            put_string(key.blob),
            _purpose(namespace, "sha512"),
            put_string(signature),
        )
    )


def verify(blob: bytes, namespace: str, message: bytes, *, require_user_verification: bool = False) -> PublicKey:
    """The key that signed `message` for `namespace`; whose key that is and what it may is the caller's question.

    Raises `FormatError` for bytes that are no SSHSIG, `BadSignature` when it does not hold or is for another namespace.
    """
    if len(blob) > MAX_BLOB:
        raise FormatError(f"a signature has {len(blob)} bytes, more than {MAX_BLOB}")
    reader = Reader(blob)
    if reader.take(len(_BEGINNING)) != _BEGINNING:
        raise FormatError("not an SSH signature of version 1")
    key = parse_public_key(reader.string())
    unverified_namespace = reader.text()
    if reader.string():
        raise FormatError("a signature's reserved field is not empty")
    hash_name = reader.text()
    signature = reader.string()
    reader.end()
    if unverified_namespace != _checked(namespace):
        raise BadSignature(f"a signature for {shown(unverified_namespace)}, not for {shown(namespace)}")
    if hash_name not in _HASHES:
        raise FormatError(f"not a hash that is taken: {shown(hash_name)}", "sha512 or sha256")
    signed = _signed_bytes(namespace, hash_name, message)
    key.verify(signature, signed, require_user_verification=require_user_verification)
    return key


def armor(blob: bytes) -> str:
    """The text form, as in a .sig file, with a newline at its end."""
    text = to_base64(blob)
    lines = "\n".join(text[i : i + _WIDTH] for i in range(0, len(text), _WIDTH))
    return f"{_BEGIN}{lines}{_END}\n"


def dearmor(text: str) -> bytes:
    """The blob of a text form, wrapped at whatever width; else `FormatError`."""
    body = text.removesuffix("\n")
    if not body.startswith(_BEGIN) or not body.endswith(_END) or len(body) <= len(_BEGIN) + len(_END):
        raise FormatError("not an armoured SSH signature")
    return from_base64(body[len(_BEGIN) : -len(_END)].replace("\n", ""), MAX_BLOB)


def _signed_bytes(namespace: str, hash_name: str, message: bytes) -> bytes:
    digest = _HASHES[hash_name](message).digest()
    return _MAGIC + _purpose(namespace, hash_name) + put_string(digest)


@lru_cache(maxsize=16)
def _purpose(namespace: str, hash_name: str) -> bytes:
    """What stands before the digest in what is signed, and before the signature in a blob."""
    return put_string(_checked(namespace)) + put_string(b"") + put_string(hash_name)


def _checked(namespace: str) -> str:
    if not namespace or not (namespace.isascii() and namespace.isprintable()):
        raise FormatError("a signature's namespace is empty or not printable ASCII")
    return namespace
