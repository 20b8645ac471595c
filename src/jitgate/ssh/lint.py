"""What is dangerous about a certificate for sshd 7.4 to 10.x, whoever signed it.

Each rule is a function over a certificate as it was read (`loose`) that yields what it finds. A rule says what sshd
does, not what a policy might want. Sources: OpenSSH's release notes, sshkey.c, auth2-pubkey.c, auth2-pubkeyfile.c,
auth-options.c, addrmatch.c, krl.c, sshconnect.c, PROTOCOL.certkeys, and the advisories that are named.
"""

import ipaddress
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from jitgate.core.text import shown
from jitgate.ssh.loose import FOREVER, LooseCertificate, LooseKey, inner

Version = tuple[int, int]
OLDEST: Final[Version] = (7, 4)
PRINCIPALS_MAX: Final = 256
DAY: Final = 86_400
LONG: Final = {False: 31 * DAY, True: 400 * DAY}  # a person's; a host's
_OLD: Final = 10 * 365 * DAY


class Severity(IntEnum):
    NOTE = 0  # worth knowing
    WARNING = 1  # opens more than it seems to, or cannot be followed later
    BROKEN = 2  # some sshd, or all, will not take it
    DANGER = 3  # opens what nobody can have meant


@dataclass(frozen=True, slots=True)
class Finding:
    """`code`: stable. `refused_from`, `refused_before`: the sshd versions that do not take such a certificate at all,
    from one on or before one; (0, 0) as `refused_from`: every version."""

    severity: Severity
    code: str
    what: str
    hint: str = ""
    refused_from: Version | None = None
    refused_before: Version | None = None

    def refused_by(self, version: Version) -> bool:
        if self.refused_from is not None and version >= self.refused_from:
            return True
        return self.refused_before is not None and version < self.refused_before

    @property
    def versions(self) -> str:
        """In words, for whom it matters that way; empty: nobody refuses it."""
        if self.refused_from is not None and self.refused_from <= OLDEST:
            return "refused by every sshd"
        if self.refused_from is not None:
            return f"refused from {_dotted(self.refused_from)} on"
        return f"refused before {_dotted(self.refused_before)}" if self.refused_before is not None else ""


EVERY: Final[Version] = (0, 0)


def lint(certificate: LooseCertificate, now: int) -> list[Finding]:
    """All that is found, the gravest first. `now`: seconds since 1970."""
    found = [finding for rule in _RULES for finding in rule(certificate)]
    found += _time(certificate, now)
    return sorted(found, key=lambda finding: -finding.severity)


def _form(certificate: LooseCertificate) -> Iterator[Finding]:
    if certificate.named != certificate.kind:
        what = f"the line says {shown(certificate.named)}, and holds {shown(certificate.kind)}"
        yield Finding(Severity.BROKEN, "type-mismatch", what, refused_from=EVERY)
    if certificate.type not in (1, 2):
        what = f"its type is {certificate.type}: neither for users nor for hosts"
        yield Finding(Severity.BROKEN, "unknown-type", what, refused_from=EVERY)
    if certificate.rest:
        what = f"{len(certificate.rest)} bytes are left over behind its signature"
        yield Finding(Severity.BROKEN, "left-over", what, refused_from=EVERY)
    if certificate.reserved:
        yield Finding(Severity.NOTE, "reserved", "its reserved field is not empty; sshd passes over it")
    if len(certificate.nonce) < 16:  # noqa: PLR2004  # 128 bits
        what = f"its nonce has {len(certificate.nonce)} bytes: who asks for it can choose what is hashed"
        yield Finding(Severity.WARNING, "short-nonce", what, "16 random bytes at least")
    texts = (certificate.key_id, *certificate.principals)
    if any(b"\0" in text for text in texts):
        what = "its key id or a principal holds a zero byte"
        yield Finding(Severity.BROKEN, "zero-byte", what, refused_from=EVERY)


def _signature(certificate: LooseCertificate) -> Iterator[Finding]:
    ca = certificate.ca
    if "-cert-v" in ca.kind:
        what = "it is signed by a certificate, not by a key: who looks at the key in it alone takes it for trusted"
        yield Finding(Severity.DANGER, "signed-by-certificate", what, "as in CVE-2025-49825", refused_from=EVERY)
        return
    if certificate.signature_holds is False:
        what = "its signature does not hold: it was changed, or never signed by the key that it names"
        yield Finding(Severity.DANGER, "bad-signature", what, refused_from=EVERY)
    elif certificate.signature_holds is None:
        yield Finding(Severity.NOTE, "signature-unchecked", f"a signature by {shown(ca.kind)} is not checked here")
    if certificate.signature_kind == "ssh-rsa":
        what = "its signature is by RSA with SHA-1, for which collisions can be bought"
        yield Finding(Severity.DANGER, "sha1", what, "sign with -t rsa-sha2-512, or an ed25519 CA", refused_from=(8, 2))
    if ca.blob == certificate.key.blob:
        what = "it certifies the key of its own authority: the CA's private key is on somebody's machine"
        yield Finding(Severity.DANGER, "own-authority", what)
    yield from _key("the authority's key", ca)


def _subject(certificate: LooseCertificate) -> Iterator[Finding]:
    yield from _key("its key", certificate.key)
    if certificate.key.kind == "ssh-rsa":
        what = "with an RSA key, sshd before 7.8 takes a login signed with SHA-1, and nothing better"
        yield Finding(Severity.NOTE, "rsa-login", what)


_KNOWN: Final = frozenset(
    {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "ssh-rsa",
        "ssh-dss",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    }
)


def _key(whose: str, key: LooseKey) -> Iterator[Finding]:
    ed25519 = "use ed25519"
    if key.kind not in _KNOWN:
        what = f"{whose} is of a type that OpenSSH does not know: {shown(key.kind)}"
        yield Finding(Severity.BROKEN, "unknown-key", what, ed25519, refused_from=EVERY)
    elif key.kind == "ssh-dss":
        what = f"{whose} is DSA of {key.bits} bits, which sshd takes only if told to, and 10.0 not at all"
        yield Finding(Severity.DANGER, "dsa", what, ed25519, refused_from=EVERY)
    elif key.kind == "ssh-rsa" and key.bits < 1024:  # noqa: PLR2004  # sshkey.h SSH_RSA_MINIMUM_MODULUS_SIZE
        what = f"{whose} is RSA of {key.bits} bits, which can be factored"
        yield Finding(Severity.DANGER, "weak-key", what, ed25519, refused_from=(7, 6))
    elif key.kind == "ssh-rsa" and key.bits < 2048:  # noqa: PLR2004  # NIST SP 800-131A: not since 2013
        yield Finding(Severity.DANGER, "weak-key", f"{whose} is RSA of {key.bits} bits", ed25519)
    elif key.kind == "ssh-rsa" and key.bits < 3072:  # noqa: PLR2004  # NIST SP 800-57: until 2030
        yield Finding(Severity.WARNING, "short-key", f"{whose} is RSA of {key.bits} bits: good until 2030", ed25519)
    elif key.kind.startswith("sk-"):
        what = f"{whose} is a security key's, which sshd knows from 8.2 on"
        yield Finding(Severity.NOTE, "sk-key", what, refused_before=(8, 2))


def _principals(certificate: LooseCertificate) -> Iterator[Finding]:
    names, host = certificate.principals, certificate.is_host
    if not names:
        what = (
            "it names no host: ssh before 10.3 takes it for every host"
            if host
            else "it names no principal: sshd before 10.3 takes it for every login whose authorized_keys has its "
            "authority as cert-authority"
        )
        yield Finding(Severity.DANGER, "no-principals", what, "as in CVE-2024-7594", refused_from=(10, 3))
    if len(names) > PRINCIPALS_MAX:
        what = f"it has {len(names)} principals, more than {PRINCIPALS_MAX}"
        yield Finding(Severity.BROKEN, "many-principals", what, refused_from=EVERY)
    if len(set(names)) < len(names):
        yield Finding(Severity.NOTE, "principal-twice", "a principal stands twice")
    for name in dict.fromkeys(names):
        yield from (_host_name if host else _login)(name)


def _login(name: bytes) -> Iterator[Finding]:
    said = _text(name)
    if not name:
        what = "a principal is empty: an unset name at whoever signed it"
        yield Finding(Severity.DANGER, "empty-principal", what, "as in CVE-2024-7594")
    elif b"," in name:
        what = f"the principal {said} holds a comma: with principals= in authorized_keys, sshd before 10.3 reads two"
        yield Finding(Severity.DANGER, "comma", what, "CVE-2026-35414, mended in older packages too")
    elif _has_wildcard(name):
        what = f"the principal {said} holds a wildcard: sshd compares it as it is, other servers and roles may not"
        yield Finding(Severity.WARNING, "wildcard", what)
    elif not _is_plain(name):
        what = f"the principal {said} holds what a principals file or a log reads otherwise"
        yield Finding(Severity.WARNING, "odd-principal", what)
    elif name == b"root":
        what = "it opens root on every host that trusts its authority and has no principals file"
        yield Finding(Severity.WARNING, "root", what, "a principal for one purpose, and AuthorizedPrincipalsFile")
    elif name.isalnum():
        what = f"it opens {said} on every host that trusts its authority and has no principals file"
        yield Finding(Severity.NOTE, "plain-login", what)


def _host_name(name: bytes) -> Iterator[Finding]:
    said, lower = _text(name), name.decode("utf-8", "replace").lower().rstrip(".")
    if _is_everybodys(lower):
        what = f"it names {said}, which is everybody's own machine: whoever has it can pose as that to all"
        yield Finding(Severity.DANGER, "loopback", what)
    elif _has_wildcard(name):
        severity = Severity.DANGER if lower in ("*", "*.*") else Severity.WARNING
        what = f"it names {said}: ssh from 10.3 on takes it for every host of that pattern, older ones for none"
        yield Finding(severity, "wildcard", what, "name the host")
    elif b"," in name or not _is_plain(name):
        yield Finding(Severity.WARNING, "odd-principal", f"the host name {said} is none")
    elif name != name.lower():
        yield Finding(Severity.NOTE, "upper-case", f"{said}: ssh asks for names in lower case, so this one never fits")


def _naming(certificate: LooseCertificate) -> Iterator[Finding]:
    if certificate.serial == 0:
        what = "its serial is 0: no revocation list can name it by serial, and every other with 0 looks the same"
        yield Finding(Severity.WARNING, "serial-0", what, "ssh-keygen -z")
    if not certificate.key_id:
        yield Finding(Severity.WARNING, "no-key-id", "its key id is empty: sshd's log does not say whose it is")
    elif not _text(certificate.key_id).isascii() or not certificate.key_id.decode("latin-1").isprintable():
        what = "its key id holds what is not printable ASCII, which looks otherwise in a log"
        yield Finding(Severity.WARNING, "odd-key-id", what)


def _time(certificate: LooseCertificate, now: int) -> Iterator[Finding]:
    start, end = certificate.valid_after, certificate.valid_before
    if start >= end:
        yield Finding(Severity.BROKEN, "never-valid", "it ends before it begins", refused_from=EVERY)
        return
    if end == FOREVER:
        what = "it never ends: whoever has its key keeps the way in until somebody takes the authority away"
        yield Finding(Severity.DANGER, "no-end", what, "ssh-keygen -V +1h")
    elif end - start > _OLD:
        years = (end - start) // (365 * DAY)
        yield Finding(Severity.DANGER, "no-end", f"it is good for {years} years", "ssh-keygen -V +1h")
    elif end - start > LONG[certificate.is_host]:
        yield Finding(Severity.WARNING, "long", f"it is good for {(end - start) // DAY} days", "renew it instead")
    if start == 0:
        yield Finding(Severity.NOTE, "no-start", "it has been good since 1970")
    if end <= now:
        yield Finding(Severity.NOTE, "ended", "it has ended")
    elif start > now:
        yield Finding(Severity.NOTE, "not-yet", "it is not good yet")


def _options(certificate: LooseCertificate) -> Iterator[Finding]:
    names = Counter(name for name, _ in certificate.options)
    for name, data in certificate.options:
        said = _text(name)
        if certificate.is_host:
            what = f"a host certificate has the critical option {said}: ssh does not take any"
            yield Finding(Severity.BROKEN, "host-option", what, refused_from=EVERY)
        elif (check := _CRITICAL.get(name)) is None:
            what = f"the critical option {said} is not one of OpenSSH's"
            yield Finding(Severity.BROKEN, "unknown-option", what, refused_from=EVERY)
        elif names[name] > 1 and name != b"verify-required":
            yield Finding(
                Severity.BROKEN, "option-twice", f"the critical option {said} stands twice", refused_from=EVERY
            )
        elif (value := inner(data)) is None or (not value and name != b"verify-required" and not data):
            yield Finding(
                Severity.BROKEN, "bad-option", f"the critical option {said} holds no text", refused_from=EVERY
            )
        else:
            yield from check(value, certificate)
    ordered = [name for name, _ in certificate.options]
    if ordered != sorted(ordered) or (more := [n for n, _ in certificate.extensions]) != sorted(more):
        yield Finding(Severity.NOTE, "unordered", "its options are not in order, which the format asks for")


def _force_command(value: bytes, certificate: LooseCertificate) -> Iterator[Finding]:
    if not value.strip():
        yield Finding(Severity.WARNING, "empty-command", "its force-command is empty: the login shell runs")
        return
    what = "its force-command is outranked by a ForceCommand of sshd_config, which runs instead without a word"
    yield Finding(Severity.NOTE, "outranked", what, "sshd -T -C user=... shows it")
    allowed = {name for name, _ in certificate.extensions}
    if b"permit-port-forwarding" in allowed:
        what = "it forces a command and allows port forwarding, which runs no command: it reaches what the host reaches"
        yield Finding(Severity.DANGER, "forwards-past-command", what, "leave permit-port-forwarding out")


def _source_address(value: bytes, _certificate: LooseCertificate) -> Iterator[Finding]:
    text = value.decode("utf-8", "replace")
    for item in text.split(","):
        try:
            if "%" in item:
                raise ValueError  # noqa: TRY301  # a zone, which ipaddress would take
            network = ipaddress.ip_network(item, strict=False)
        except ValueError:
            what = f"its source-address has {shown(item)}, which is no network"
            yield Finding(Severity.BROKEN, "bad-source", what, "192.0.2.0/24,2001:db8::/32", refused_from=EVERY)
            return
        if ipaddress.ip_interface(item).ip != network.network_address:
            what = f"its source-address has {shown(item)}, with bits set behind the network"
            yield Finding(Severity.BROKEN, "bad-source", what, f"{network}", refused_from=EVERY)
            return
        if network.prefixlen == 0:
            yield Finding(Severity.WARNING, "any-source", f"its source-address has {shown(item)}: from anywhere")
        elif isinstance(network, ipaddress.IPv6Network) and network.network_address.ipv4_mapped is not None:
            what = f"its source-address has {shown(item)}, which fits no address: sshd compares these as IPv4"
            yield Finding(Severity.WARNING, "mapped-source", what)


def _verify_required(_value: bytes, certificate: LooseCertificate) -> Iterator[Finding]:
    what = "it asks for the security key's PIN or fingerprint, which sshd can from 8.4 on"
    yield Finding(Severity.NOTE, "verify-required", what, refused_before=(8, 4))
    if not certificate.key.kind.startswith("sk-"):
        what = "it asks for a security key's PIN, and its key is no security key: nothing is asked"
        yield Finding(Severity.WARNING, "no-security-key", what)


_CRITICAL: Final[dict[bytes, Callable[[bytes, LooseCertificate], Iterator[Finding]]]] = {
    b"force-command": _force_command,
    b"source-address": _source_address,
    b"verify-required": _verify_required,
}
_FLAGS: Final[dict[bytes, tuple[Severity, str] | None]] = {
    b"permit-pty": None,
    b"permit-user-rc": (Severity.NOTE, "runs ~/.ssh/rc at each login, whatever else is forced"),
    b"permit-port-forwarding": (Severity.WARNING, "forwards ports: it reaches all that the host reaches"),
    b"permit-agent-forwarding": (Severity.WARNING, "forwards the agent: root on the host can log in elsewhere with it"),
    b"permit-X11-forwarding": (Severity.WARNING, "forwards X11: root on the host sees the person's screen and keys"),
    b"no-touch-required": (Severity.WARNING, "lets a security key sign without a touch"),
}


def _extensions(certificate: LooseCertificate) -> Iterator[Finding]:
    for name, data in certificate.extensions:
        if certificate.is_host or name not in _FLAGS:
            known = "" if b"@" in name else ", and not named as one of somebody's own"
            what = f"the extension {_text(name)} is not one of OpenSSH's: sshd passes over it{known}"
            yield Finding(Severity.NOTE, "unknown-extension", what)
        elif data:
            what = f"the extension {_text(name)} holds data, and is a flag"
            yield Finding(Severity.BROKEN, "bad-extension", what, refused_from=EVERY)
        elif (means := _FLAGS[name]) is not None:
            yield Finding(means[0], name.decode("ascii"), means[1])


_RULES: Final = (_form, _signature, _subject, _principals, _naming, _options, _extensions)


def _text(name: bytes) -> str:
    return shown(name.decode("utf-8", "backslashreplace"))


def _has_wildcard(name: bytes) -> bool:
    return any(character in name for character in b"*?!")


def _is_plain(name: bytes) -> bool:
    return name.isascii() and name.decode("ascii").isprintable() and not any(c in name for c in b" #\"'\\`$;&|<>()")


def _is_everybodys(name: str) -> bool:
    if name == "localhost" or name.startswith("localhost.") or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False


def _dotted(version: Version | None) -> str:
    return ".".join(map(str, version or ()))
