"""Key revocation lists in OpenSSH's binary form (PROTOCOL.krl): read, written, joined with another tool's.

What a list means, to sshd and here: a key is revoked by its blob or its fingerprint, and with it every certificate for
it and every certificate that it signed; a certificate by its authority and serial or key id, where no authority stands
for all of them. Serial 0 cannot be revoked. A list is not signed: whoever hands it on has to say whose it is.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha1, sha256
from typing import Final

from jitgate.ssh.krl_serials import BITMAP, LIST, RANGE, Serials, put_serials, read_serials
from jitgate.ssh.wire import FormatError, Reader, put_string, put_uint32, put_uint64

MAX_KRL: Final = 1 << 26
"""Bytes: eight million serials that stand alone. sshd itself reads up to 2^27."""
MAX_KEY_ID: Final = 1 << 16

_MAGIC: Final = b"SSHKRL\n\x00"
_FORMAT: Final = 1
_CERTIFICATES: Final = 1
_KEYS: Final = 2
_SHA1: Final = 3
_SIGNATURE: Final = 4
_SHA256: Final = 5
_KEY_ID: Final = 0x23
_EXTENSION: Final = {255, 0x39}  # of the list; of one authority's certificates
_DIGEST_BYTES: Final = {_SHA1: 20, _SHA256: 32}


@dataclass(frozen=True, slots=True)
class Certificates:
    """What is revoked of one authority. `extensions`: others' own, not critical, kept as they stood."""

    serials: Serials = field(default_factory=Serials)
    key_ids: frozenset[bytes] = frozenset()
    extensions: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Krl:
    """A list. `version` and `generated` (seconds since 1970) are for people: sshd compares neither.

    `certificates`: by the authority's key blob, empty for all authorities. `keys`: blobs of plain keys, an authority's
    among them. `extensions` as in `Certificates`.
    """

    version: int = 0
    generated: int = 0
    comment: bytes = b""
    certificates: Mapping[bytes, Certificates] = field(default_factory=dict)
    keys: frozenset[bytes] = frozenset()
    sha1: frozenset[bytes] = frozenset()
    sha256: frozenset[bytes] = frozenset()
    extensions: tuple[bytes, ...] = ()

    def has_key(self, blob: bytes) -> bool:
        """Whether the plain key of that blob is revoked."""
        if blob in self.keys or sha256(blob).digest() in self.sha256:
            return True
        return sha1(blob, usedforsecurity=False).digest() in self.sha1  # what others' lists hold

    def has_certificate(self, key: bytes, ca: bytes, serial: int, key_id: bytes) -> bool:
        """Whether a certificate for the key of blob `key` by the authority of blob `ca` is revoked."""
        if self.has_key(key) or self.has_key(ca):
            return True
        for found in filter(None, map(self.certificates.get, (ca, b""))):
            if key_id in found.key_ids or serial in found.serials:  # 0 is in no set
                return True
        return False


def dump_krl(krl: Krl) -> bytes:
    """The list's bytes: the same for the same list."""
    return _head(krl.version, krl.generated, krl.comment) + b"".join(
        bytes([kind]) + put_string(data) for kind, data in _sections(krl)
    )


def parse_krl(data: bytes) -> Krl:
    """The list in `data`; `FormatError` for what sshd would not take, or what we cannot keep the meaning of.

    That is: a section of a type that is not known, or a critical extension. A signature is passed over: no sshd asks
    for one, and 9.4 and later have no such thing.
    """
    version, generated, comment, reader = _open(data)
    ranges: dict[bytes, list[tuple[int, bytes]]] = {}
    blobs: dict[int, set[bytes]] = {_KEYS: set(), _SHA1: set(), _SHA256: set()}
    extensions: list[bytes] = []
    for kind, section in _read_sections(reader):
        if kind == _CERTIFICATES:
            ca, subsections = _read_certificates(section)
            ranges.setdefault(ca, []).extend(subsections)
        elif kind in blobs:
            blobs[kind].update(_read_blobs(kind, section))
        elif kind in _EXTENSION:
            extensions.append(section)
    return Krl(
        version,
        generated,
        comment,
        {ca: _certificates(subsections) for ca, subsections in ranges.items()},
        frozenset(blobs[_KEYS]),
        frozenset(blobs[_SHA1]),
        frozenset(blobs[_SHA256]),
        tuple(extensions),
    )


def merge(lists: Collection[bytes], *, version: int, generated: int, comment: bytes = b"") -> bytes:
    """One list that revokes exactly what any of `lists` does; `FormatError` as `parse_krl`, and then nothing is made.

    Sections are taken over byte for byte, but for signatures, which cannot hold over anything else. Join lists as they
    came, never with what was joined before: what a list has given up would stay.
    """
    merged = [_head(version, generated, comment)]
    for data in lists:
        reader = _open(data)[-1]
        for kind, section in _read_sections(reader):
            if kind == _CERTIFICATES:
                _check_certificates(section)
            elif kind in _DIGEST_BYTES or kind == _KEYS:
                for _ in _read_blobs(kind, section):
                    pass
            if kind != _SIGNATURE:
                merged.append(bytes([kind]) + put_string(section))
    if (size := sum(map(len, merged))) > MAX_KRL:
        raise FormatError(f"the revocation lists together have {size} bytes, more than {MAX_KRL}")
    return b"".join(merged)


def _head(version: int, generated: int, comment: bytes) -> bytes:
    numbers = put_uint64(version) + put_uint64(generated) + put_uint64(0)  # flags: none are defined
    return _MAGIC + put_uint32(_FORMAT) + numbers + put_string(b"") + put_string(comment)


def _sections(krl: Krl) -> Iterator[tuple[int, bytes]]:
    for ca, found in sorted(krl.certificates.items()):
        subsections = list(put_serials(found.serials))
        if found.key_ids:
            subsections.append((_KEY_ID, b"".join(map(put_string, sorted(found.key_ids)))))
        subsections += [(0x39, extension) for extension in found.extensions]
        if subsections:
            content = b"".join(bytes([kind]) + put_string(data) for kind, data in subsections)
            yield _CERTIFICATES, put_string(ca) + put_string(b"") + content
    for kind, blobs in ((_KEYS, krl.keys), (_SHA1, krl.sha1), (_SHA256, krl.sha256)):
        if blobs:
            yield kind, b"".join(map(put_string, sorted(blobs)))
    yield from ((255, extension) for extension in krl.extensions)


def _open(data: bytes) -> tuple[int, int, bytes, Reader]:
    if len(data) > MAX_KRL:
        raise FormatError(f"a revocation list has {len(data)} bytes, more than {MAX_KRL}")
    if data[: len(_MAGIC)] != _MAGIC:
        raise FormatError("not a revocation list in OpenSSH's binary form", "ssh-keygen -k makes one of a text file")
    reader = Reader(data)
    reader.take(len(_MAGIC))
    if (form := reader.uint32()) != _FORMAT:
        raise FormatError(f"a revocation list in form {form}, which is not known")
    version, generated = reader.uint64(), reader.uint64()
    reader.uint64()  # flags and what is reserved: sshd reads neither
    reader.string()
    return version, generated, _c_string(reader), reader


def _read_sections(reader: Reader) -> Iterator[tuple[int, bytes]]:
    """Type and data of each section that we know."""
    while reader.more:
        kind, section = reader.byte(), reader.string(MAX_KRL)
        if kind not in {_CERTIFICATES, _KEYS, _SHA1, _SIGNATURE, _SHA256, 255}:
            raise FormatError(f"a section of a revocation list has the type {kind}, which is not known")
        if kind in _EXTENSION:
            _check_extension(section)
        yield kind, section


def _read_certificates(section: bytes) -> tuple[bytes, Iterator[tuple[int, bytes]]]:
    """The authority's key blob, and type and data of each subsection."""
    reader = Reader(section)
    ca = reader.string()
    reader.string()  # reserved
    if ca and not Reader(ca).string().isascii():
        raise FormatError("a revocation list names an authority by what is no key")
    return ca, _read_subsections(reader)


def _read_subsections(reader: Reader) -> Iterator[tuple[int, bytes]]:
    while reader.more:
        kind, data = reader.byte(), reader.string(MAX_KRL)
        if kind in _EXTENSION:
            _check_extension(data)
        elif kind not in {LIST, RANGE, BITMAP, _KEY_ID}:
            raise FormatError(f"a subsection of a revocation list has the type {kind}, which is not known")
        yield kind, data


def _certificates(subsections: Collection[tuple[int, bytes]]) -> Certificates:
    runs = (run for kind, data in subsections if kind in {LIST, RANGE, BITMAP} for run in read_serials(kind, data))
    key_ids = (key_id for kind, data in subsections if kind == _KEY_ID for key_id in _read_key_ids(data))
    extensions = tuple(data for kind, data in subsections if kind in _EXTENSION)
    return Certificates(Serials(runs), frozenset(key_ids), extensions)


def _check_certificates(section: bytes) -> None:
    """As `_certificates`, keeping nothing."""
    for kind, data in _read_certificates(section)[1]:
        if kind in {LIST, RANGE, BITMAP}:
            for _ in read_serials(kind, data):
                pass
        elif kind == _KEY_ID:
            for _ in _read_key_ids(data):
                pass


def _read_key_ids(data: bytes) -> Iterator[bytes]:
    reader = Reader(data)
    while reader.more:
        yield _c_string(reader)


def _read_blobs(kind: int, section: bytes) -> Iterator[bytes]:
    reader = Reader(section)
    while reader.more:
        blob = reader.string()
        if len(blob) != _DIGEST_BYTES.get(kind, len(blob)):
            raise FormatError(f"a fingerprint in a revocation list has {len(blob)} bytes")
        yield blob


def _check_extension(data: bytes) -> None:
    """An extension may be passed over unless it is critical."""
    reader = Reader(data)
    name = _c_string(reader)
    critical = reader.byte()
    reader.string(MAX_KRL)
    reader.end()
    if critical:
        raise FormatError(f"a revocation list has a critical extension that is not known: {name!r:.80}")


def _c_string(reader: Reader) -> bytes:
    """A string that ends where C thinks that it does."""
    data = reader.string(MAX_KEY_ID)
    if b"\x00" in data:
        raise FormatError("a text in a revocation list holds a zero byte")
    return data
