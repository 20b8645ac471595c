"""The one revocation list that sshd reads: the installation's, and what else stood in `RevokedKeys`, merged.

sshd refuses every key while its list is missing or unsound. So ours is whole at every moment, sshd's own ssh-keygen is
asked about it before it comes into place, and what cannot be read of another's list keeps what was merged before.
"""

import base64
import binascii
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jitgate.agent import durable
from jitgate.agent.sshd import Setting, Sshd
from jitgate.core.clock import SECOND
from jitgate.core.errors import BadInput, Unsafe
from jitgate.core.text import shown
from jitgate.hosts.bundle import BundleVersion
from jitgate.ssh.krl import MAX_KRL, Krl, dump_krl, merge, parse_krl
from jitgate.ssh.wire import FormatError, Reader

EMPTY: Final = dump_krl(Krl())
_MAGIC: Final = b"SSHKRL\n\x00"
_MARK: Final = "jitgate "
_TIMEOUT_S: Final = 30
_TYPE_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Merged:
    """`version`: of the bundle whose list is in it. `key`: the fingerprint of the online key that signed that bundle,
    for versions of two keys say nothing about each other; empty for a list that no bundle is in."""

    data: bytes
    key: str
    version: BundleVersion


def other_lists(settings: Sequence[Setting]) -> tuple[Path, ...]:
    """The lists that `RevokedKeys` names beside ours. `Unsafe` where ours cannot take their place."""
    found = [each for each in settings if each.keyword == "revokedkeys" and each.value != "none"]
    for each in found:
        if each.match:
            raise Unsafe(
                f"RevokedKeys is set for some connections only: {each.place}",
                "sshd takes one list; set it for all, before or without the Match, then it is merged",
            )
    paths = {each.value for each in found}
    if len(paths) > 1:
        raise Unsafe(
            f"RevokedKeys is set more than once: {', '.join(each.place for each in found)}",
            "sshd reads the first only; take the others out",
        )
    return tuple(map(Path, sorted(paths)))


def read_other(path: Path) -> bytes:
    """Somebody else's list as a KRL: it is one, or a text of public keys. `BadInput` for what sshd would not take."""
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_KRL + 1)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}", "sshd refuses every key without it") from error
    if data.startswith(_MAGIC):
        parse_krl(data)
        return data
    if len(data) > MAX_KRL:
        raise BadInput(f"{path} has more than {MAX_KRL} bytes")
    blobs = [
        _blob(line, f"{path} line {number}")
        for number, line in enumerate(data.split(b"\n"), 1)
        if line.strip() and not line.lstrip().startswith(b"#")
    ]
    return dump_krl(Krl(keys=frozenset(blobs)))


def merged(own: bytes, key: str, version: BundleVersion | None, others: Sequence[bytes]) -> bytes:
    """One list of all. The comment says which bundle is in it. `FormatError` for one that sshd would not take."""
    counter, made = (version[1], version[2] // SECOND) if version else (0, 0)
    return merge([own, *others], version=counter, generated=made, comment=_mark(key, version))


def installed(sshd: Sshd) -> Merged | None:
    """The list that stands there; None when there is none, or none that sshd takes."""
    try:
        data = durable.get(sshd.folder / "krl", MAX_KRL)
        if data is None:
            return None
        return Merged(data, *_marked(parse_krl(data).comment))
    except (FormatError, Unsafe):
        return None


def install(sshd: Sshd, data: bytes) -> bool:
    """Puts it into place unless it is there; whether it was not. `NotWritten`, `FormatError`: nothing has changed."""
    path = sshd.folder / "krl"
    try:
        if durable.get(path, MAX_KRL) == data:
            return False
    except Unsafe:
        pass  # replaced by ours
    parse_krl(data)
    # Not in our folder: the script wants to know each file that lies there.
    durable.put(path, data, durable.PUBLIC, new=waiting(sshd), check=_ask_ssh_keygen)
    return True


def waiting(sshd: Sshd) -> Path:
    """Where a new list waits to be moved into place."""
    return sshd.etc / ".jitgate-krl-new"


def _ask_ssh_keygen(path: Path) -> None:
    """`FormatError` unless the ssh-keygen of this machine, which reads lists as its sshd does, can read it."""
    try:
        done = subprocess.run(  # noqa: S603  # arguments, no shell's line
            ["ssh-keygen", "-Q", "-f", str(path)],  # noqa: S607  # as the script finds it
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise FormatError(f"ssh-keygen cannot be asked about a revocation list: {error}") from None
    if done.returncode != 0:
        words = shown(done.stderr.decode(errors="replace").strip(), 200)
        raise FormatError(f"this machine's OpenSSH does not take the revocation list: {words}")


def _blob(line: bytes, place: str) -> bytes:
    """The key's wire form. Not parsed further: weak and old keys are what lists of revoked keys are for."""
    try:
        kind, text = line.split()[:2]
        blob = base64.b64decode(text, validate=True)
        named = Reader(blob).string(_TYPE_MAX)
    except (ValueError, binascii.Error, FormatError):
        kind, named, blob = b"?", b"", b""
    if kind != named:
        raise BadInput(f"{place} is no public key", "one a line: TYPE BASE64 [COMMENT]")
    return blob


def _mark(key: str, version: BundleVersion | None) -> bytes:
    return f"{_MARK}{key} {'.'.join(map(str, version))}".encode("ascii") if version else _MARK.encode("ascii")


def _marked(comment: bytes) -> tuple[str, BundleVersion]:
    match comment.decode("ascii", "replace").removeprefix(_MARK).split(" "):
        case [key, text] if re.fullmatch(r"[0-9]{1,19}(\.[0-9]{1,19}){2}", text):
            epoch, counter, made = map(int, text.split("."))
            return key, (epoch, counter, made)
    return "", (0, 0, 0)
