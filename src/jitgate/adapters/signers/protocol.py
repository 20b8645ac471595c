"""What service and signer say to each other: frames over one stream socket, answered one by one in their order.

A frame is a length (uint32) and that many bytes: an operation (byte), then fields in SSH wire types. These are used
because their reader is strict, bounded and in the signer anyway: blobs need no second coding, and no other parser of
foreign bytes enters the process that holds the keys. Anything malformed ends the connection.

    hello       uint32 version             -> string origin, string log key, string root ("" for none), uint64 size,
                                              uint32 n, n * (string realm, string kind, string key, string file,
                                              boolean kept), uint32 n, n * (string file, string why, string hint),
                                              string root key, string online key ("" for none)
    sign        uint32 n, n * (string realm, string tbs)
                                           -> n * (byte 0, string signature | byte 1, string code, why, hint)
    checkpoint  string body                -> the same, once; the signature is the raw ed25519 one
    trust       string payload             -> the same, once
    bundles     uint32 n, n * string payload
                                           -> the same, n times
    list        uint64 offset              -> uint64 next, string whole lines
    generate    string realm               -> the same, once; the public half of a new key for a Vault mount
    failed                                 -> string what, string hint     (instead of an answer)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from jitgate.ca.model import HeldAgentKeys, HeldKey, HeldKeys, LogHead, RefusedFile, SignerRefusal, SignRequest
from jitgate.ca.realms import CaKind
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.ssh.pubkey import parse_public_key
from jitgate.ssh.wire import MAX_STRING, FormatError, Reader, put_string, put_uint32, put_uint64

VERSION: Final = 2
MAX_BATCH: Final = 256  # one sync of the list serves so many; more would only lengthen each caller's wait
MAX_FRAME: Final = 4 << 20  # bytes; a full batch of usual certificates is 200 kB
MAX_BATCH_BYTES: Final = MAX_FRAME - (64 << 10)  # what the client puts into one message, fields around it left out
MAX_PAGE: Final = 1 << 20
MAX_BUNDLES: Final = 64  # in one message: some milliseconds, in which no certificate is signed
_MAX_KEYS: Final = 1024


class Op(IntEnum):
    FAILED = 0
    HELLO = 1
    SIGN = 2
    CHECKPOINT = 3
    LIST = 4
    TRUST = 5
    BUNDLES = 6
    GENERATE = 16


Result = bytes | SignerRefusal


@dataclass(frozen=True, slots=True)
class Hello:
    pass


@dataclass(frozen=True, slots=True)
class Sign:
    requests: tuple[SignRequest, ...]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    body: bytes


@dataclass(frozen=True, slots=True)
class ListFrom:
    offset: int


@dataclass(frozen=True, slots=True)
class Trust:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Bundles:
    payloads: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class Generate:
    """A new key for the Vault mount of that realm."""

    realm: str


Request = Generate | Hello | Sign | Checkpoint | ListFrom | Trust | Bundles


def length_of(head: bytes) -> int:
    """The length that the four bytes before a frame announce; `FormatError` for one that is not taken."""
    length = int.from_bytes(head, "big")
    if not 1 <= length <= MAX_FRAME:
        raise FormatError(f"a frame of {length} bytes")
    return length


def put_request(request: Request) -> bytes:
    """The whole frame."""
    match request:
        case Hello():
            return _frame(Op.HELLO, put_uint32(VERSION))
        case Sign(requests):
            fields = [put_string(each.realm) + put_string(each.tbs) for each in requests]
            return _frame(Op.SIGN, put_uint32(len(fields)), *fields)
        case Checkpoint(body):
            return _frame(Op.CHECKPOINT, put_string(body))
        case ListFrom(offset):
            return _frame(Op.LIST, put_uint64(offset))
        case Generate(realm):
            return _frame(Op.GENERATE, put_string(realm))
        case Trust(payload):
            return _frame(Op.TRUST, put_string(payload))
        case Bundles(payloads):
            return _frame(Op.BUNDLES, put_uint32(len(payloads)), *map(put_string, payloads))


def take_request(payload: bytes) -> Request:  # noqa: C901  # one branch an operation
    """What the bytes of a frame ask for; `FormatError` for anything else."""
    reader = Reader(payload)
    op = reader.byte()
    found: Request
    if op == Op.HELLO:
        if (version := reader.uint32()) != VERSION:
            raise FormatError(f"protocol version {version}", f"service and signer are of different releases: {VERSION}")
        found = Hello()
    elif op == Op.SIGN:
        if not 1 <= (count := reader.uint32()) <= MAX_BATCH:
            raise FormatError(f"a batch of {count}")
        found = Sign(tuple(SignRequest(reader.text(), reader.string()) for _ in range(count)))
    elif op == Op.CHECKPOINT:
        found = Checkpoint(reader.string())
    elif op == Op.LIST:
        found = ListFrom(reader.uint64())
    elif op == Op.GENERATE:
        found = Generate(reader.text())
    elif op == Op.TRUST:
        found = Trust(reader.string(TRUST_MAX))
    elif op == Op.BUNDLES:
        if not 1 <= (count := reader.uint32()) <= MAX_BUNDLES:
            raise FormatError(f"a message with {count} bundles")
        found = Bundles(tuple(reader.string(BUNDLE_MAX) for _ in range(count)))
    else:
        raise FormatError(f"operation {op}")
    reader.end()
    return found


def put_failed(what: str, hint: str) -> bytes:
    return _frame(Op.FAILED, put_string(what), put_string(hint))


def put_keys(held: HeldKeys) -> bytes:
    keys = [
        put_string(each.realm)
        + put_string(each.kind)
        + put_string(each.key.blob)
        + put_string(each.file)
        + bytes([each.kept])
        for each in held.authorities
    ]
    refused = [put_string(each.file) + put_string(each.why) + put_string(each.hint) for each in held.refused]
    head = (put_string(held.head.root), put_uint64(held.head.size)) if held.head else (put_string(""), put_uint64(0))
    agents = map(put_string, (held.agents.root.blob, held.agents.online.blob) if held.agents else (b"", b""))
    log = (put_string(held.origin), put_string(held.log.blob), *head)
    return _frame(Op.HELLO, *log, put_uint32(len(keys)), *keys, put_uint32(len(refused)), *refused, *agents)


def take_keys(payload: bytes) -> HeldKeys:
    reader = _answer(Op.HELLO, payload)
    origin, log = reader.text(), parse_public_key(reader.string())
    root, size = reader.text(), reader.uint64()
    if (count := reader.uint32()) > _MAX_KEYS:
        raise FormatError(f"{count} CA keys")
    held = []
    for _ in range(count):
        realm, kind = reader.text(), reader.text()
        if kind not in list(CaKind):
            raise FormatError("a CA key of an unknown kind")
        key = parse_public_key(reader.string())
        held.append(HeldKey(realm, CaKind(kind), key, reader.text(), reader.boolean()))
    if (count := reader.uint32()) > _MAX_KEYS:
        raise FormatError(f"{count} refused files")
    refused = tuple(RefusedFile(reader.text(), reader.text(), reader.text()) for _ in range(count))
    root_key, online_key = reader.string(), reader.string()
    reader.end()
    agents = HeldAgentKeys(parse_public_key(root_key), parse_public_key(online_key)) if root_key else None
    return HeldKeys(tuple(held), log, origin, LogHead(size, root) if root else None, refused, agents)


def put_results(op: Op, results: Sequence[Result]) -> bytes:
    return _frame(op, *map(_put_result, results))


def take_results(op: Op, payload: bytes, count: int) -> list[Result]:
    reader = _answer(op, payload)
    found = [_take_result(reader) for _ in range(count)]
    reader.end()
    return found


def put_page(lines: bytes, after: int) -> bytes:
    return _frame(Op.LIST, put_uint64(after), put_string(lines))


def take_page(payload: bytes) -> tuple[bytes, int]:
    reader = _answer(Op.LIST, payload)
    after, lines = reader.uint64(), reader.string(MAX_PAGE)
    reader.end()
    return lines, after


class SignerFailed(FormatError):
    """The signer could not do it, or could not even start; its own words."""


def _answer(op: Op, payload: bytes) -> Reader:
    reader = Reader(payload)
    found = reader.byte()
    if found == Op.FAILED:
        raise SignerFailed(reader.text(), reader.text())
    if found != op:
        raise FormatError(f"an answer to operation {found} where one to {op.value} was due")
    return reader


def _frame(op: Op, *fields: bytes) -> bytes:
    payload = bytes([op]) + b"".join(fields)
    return put_uint32(len(payload)) + payload


def _put_result(result: Result) -> bytes:
    if isinstance(result, bytes):
        return b"\x00" + put_string(result)
    return b"\x01" + put_string(result.code) + put_string(result.why) + put_string(result.hint)


def _take_result(reader: Reader) -> Result:
    if reader.boolean():
        return SignerRefusal(reader.text(MAX_STRING), reader.text(), reader.text())
    return reader.string()
