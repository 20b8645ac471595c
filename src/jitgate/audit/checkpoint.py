"""Checkpoints: "the log of this origin had this size and this root", signed.

Source: C2SP tlog-checkpoint and signed-note (c2sp.org). Only Ed25519 (signature type 0x01); signatures of other keys,
such as witnesses, are ignored, as the specification asks. A checkpoint says something only to who got the verifier key
by another way than the checkpoint.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from jitgate.audit.events import INT_LIMIT
from jitgate.audit.tree import HASH_SIZE, Frontier
from jitgate.core.errors import BadInput
from jitgate.core.text import shown

TEXT_MAX = 100_000  # bytes; room for 16 post-quantum cosignatures
SIGNATURES_MAX = 64
_ED25519 = b"\x01"
_KEY_SIZE = 32
_ID_SIZE = 4
_NAME = re.compile(r"[!-*,-~]{1,200}")  # printable ASCII without space and plus: narrower than the specification
_SIZE = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a verified checkpoint says: made by `open_checkpoint`, or read from the list of the signer that made it."""

    origin: str
    size: int
    root: bytes


def checkpoint_body(origin: str, frontier: Frontier) -> bytes:
    """The text that is signed. `origin` names the log, like `jitgate.example.com/log`."""
    root = base64.b64encode(frontier.root()).decode()
    return f"{_check_key_name(origin)}\n{frontier.size}\n{root}\n".encode()


def seal(body: bytes, key_name: str, sign: Callable[[bytes], bytes], public: bytes) -> str:
    """The signed checkpoint. `sign` gives 64 bytes, `public` is the raw key; a signature that is wrong: `BadInput`."""
    parse_body(body)
    return sign_note(body, key_name, sign, public)


def sign_note(body: bytes, key_name: str, sign: Callable[[bytes], bytes], public: bytes) -> str:
    """`seal` for any text that ends with a newline."""
    signature = sign(body)
    _verify(public, signature, body)
    blob = base64.b64encode(_key_id(key_name, public) + signature).decode()
    return f"{body.decode()}\n— {_check_key_name(key_name)} {blob}\n"


def open_checkpoint(text: str, key_name: str, public: bytes) -> Checkpoint:
    """What the checkpoint says, if this key signed it and its origin is the key's name; else `BadInput`."""
    checkpoint = parse_body(open_note(text, key_name, public))
    if checkpoint.origin != key_name:
        raise BadInput(f"the checkpoint is of the log {shown(checkpoint.origin)}", f"wanted is {shown(key_name)}")
    return checkpoint


def open_note(text: str, key_name: str, public: bytes) -> bytes:
    """The text that this key signed; `BadInput` if it signed none, or one of its signatures is wrong."""
    unverified_body, lines = _split(text)
    known = [_signature_of(line, key_name, _key_id(key_name, public)) for line in lines]
    ours = [signature for signature in known if signature is not None]
    if not ours:
        raise BadInput(
            f"the checkpoint is not signed by {shown(key_name)}", "is it this log's, and this the log's key?"
        )
    for signature in ours:
        _verify(public, signature, unverified_body)
    return unverified_body


def unverified_checkpoint(text: str) -> Checkpoint:
    """What the checkpoint claims, its signatures not checked; `BadInput` for what is none."""
    return parse_body(_split(text)[0])


def _split(text: str) -> tuple[bytes, list[str]]:
    """Body and signature lines of a signed note."""
    if type(text) is not str or len(text) > TEXT_MAX or any(c < " " and c != "\n" for c in text):
        raise BadInput("not a checkpoint", "a text file of a few lines, as it was published")
    body, blank, signatures = text.rpartition("\n\n")
    lines = signatures.split("\n")
    if not blank or lines.pop() or not 1 <= len(lines) <= SIGNATURES_MAX:
        raise BadInput("not a checkpoint: no signature", "three lines, an empty one, and one or more of signatures")
    return f"{body}\n".encode(), lines


def parse_body(body: bytes) -> Checkpoint:
    """Origin, size and root of an unsigned body; lines after them are ignored. `BadInput` for anything else."""
    try:
        origin, size, root64, *extensions = body.decode().split("\n")
        root = base64.b64decode(root64, validate=True)
    except ValueError:
        raise BadInput("not a checkpoint", "its lines are origin, size and root hash") from None
    if not extensions or extensions.pop() or "" in extensions or not _SIZE.fullmatch(size) or int(size) >= INT_LIMIT:
        raise BadInput("not a checkpoint", "its lines are origin, size and root hash")
    if len(root) != HASH_SIZE or base64.b64encode(root).decode() != root64:
        raise BadInput("not a checkpoint: its root hash is malformed", "32 bytes in base 64")
    return Checkpoint(_check_key_name(origin), int(size), root)


def verifier_key(name: str, public: bytes) -> str:
    """The public key as others' tools take it: `NAME+ID+KEY` (signed-note's vkey)."""
    key = base64.b64encode(_ED25519 + public).decode()
    return f"{_check_key_name(name)}+{_key_id(name, public).hex()}+{key}"


def parse_verifier_key(text: str) -> tuple[str, bytes]:
    """Name and raw public key; `BadInput` if it is not exactly what `verifier_key` gives for them."""
    name, _, rest = text.strip().partition("+")
    try:
        key = base64.b64decode(rest.partition("+")[2], validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if key[:1] != _ED25519 or len(key) != 1 + _KEY_SIZE or verifier_key(name, key[1:]) != text.strip():
        raise BadInput(f"not a log's key: {shown(text)}", "NAME+ID+KEY, as the service shows it")
    return name, key[1:]


def _key_id(name: str, public: bytes) -> bytes:
    return sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:_ID_SIZE]


def _signature_of(line: str, key_name: str, key_id: bytes) -> bytes | None:
    """The signature in a line if it names this key, else None; `BadInput` for a line that is none."""
    dash, name, blob64 = (*line.split(" "), "", "")[:3]
    try:
        blob = base64.b64decode(blob64, validate=True)
    except (binascii.Error, ValueError):
        blob = b""
    if dash != "—" or len(blob) <= _ID_SIZE or line != f"— {name} {blob64}":
        raise BadInput(f"not a signature line: {shown(line)}", "a dash, a name and base 64")
    if name != key_name or not hmac.compare_digest(blob[:_ID_SIZE], key_id):
        return None
    return blob[_ID_SIZE:]


def _verify(public: bytes, signature: bytes, body: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, body)
    except (InvalidSignature, ValueError):
        raise BadInput("the checkpoint's signature is wrong", "it was altered, or another key signed it") from None


def _check_key_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise BadInput(f"not a log's name: {shown(name)}", "like jitgate.example.com/log")
    return name
