"""Who sshd let in, from the two sources that an ordinary user cannot write.

PAM: what sshd told it, written down by login_hook.py in a folder of root's. It has the certificate itself.

The journal: an entry counts when journald vouches for where it came from (systemd.journal-fields(7), the fields with an
underscore, which no client can set): `_UID=0`, `_TRANSPORT=syslog`, a `_COMM` and `_EXE` of sshd's, and a process that
is such an sshd still. The line is matched from its first character to its last, because a key id, a user name or a
client's words may hold anything; sshd cuts a line at 1,024 bytes, so one that may have been cut is not believed.
A line in a plain log file counts for nothing here.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from jitgate.core.errors import BadInput
from jitgate.core.fields import Fields, read_json
from jitgate.core.ids import is_id
from jitgate.hosts.host_login import KEY_ID_MAX, How
from jitgate.ssh.cert import Certificate, parse_certificate
from jitgate.ssh.wire import FormatError, from_base64

ENTRY_MAX: Final = 1 << 16  # bytes of one entry of the journal
_LINE_MAX: Final = 1000  # characters; sshd's own limit is 1,023
_SSHD: Final = frozenset({"sshd", "sshd-session"})
_ACCEPTED: Final = re.compile(
    r"Accepted (?P<method>[a-z-]+(?:/[a-z]+)?) for (?P<login>[^ ]{1,32}) from (?P<source>[0-9a-fA-F.:]{2,45}) "
    r"port (?P<port>[0-9]{1,5}) ssh2(?:: (?P<key>.*))?"
)
_CERTIFICATE: Final = re.compile(
    r"[A-Z0-9-]+-CERT SHA256:[A-Za-z0-9+/]{43} ID (?P<key_id>.*) \(serial (?P<serial>[0-9]{1,20})\) "
    r"CA [A-Z0-9-]+ (?P<ca>SHA256:[A-Za-z0-9+/]{43})"
)
_PLAIN: Final = re.compile(r"[A-Z0-9-]+ SHA256:[A-Za-z0-9+/]{43}")
_PRINCIPAL: Final = re.compile(r"[!-~]{1,256}")  # of Kerberos, and a host's name
_KEY_ID: Final = re.compile(r"jitgate grant=([0-9A-Z]{26}) person=[!-~]{1,64}")


@dataclass(frozen=True, slots=True)
class Accepted:
    """`pid`: of sshd's process for the connection, which root runs; `started`: when, or 0 where that is not told.
    `source` empty: to be asked of the kernel. `ca`: fingerprint of the certificate's CA; `key`, `ca_key`: blobs, where
    they are known."""

    pid: int
    started: int
    login: str
    source: str
    port: int
    how: How
    serial: int = 0
    key_id: str = ""
    ca: str = ""
    key: bytes = b""


def grant_of(key_id: str) -> str:
    """The grant that a key id of ours names; empty for every other text."""
    found = _KEY_ID.fullmatch(key_id)
    return found[1] if found and is_id(found[1]) else ""


def from_pam(unverified: bytes) -> tuple[str, Accepted]:
    """What the hook wrote: `open_session` or `close_session`, and who. `BadInput` for what it does not write."""
    fields = Fields(read_json(unverified, "what PAM said"), "what PAM said")
    kind = fields.text("PAM_TYPE", 32)
    if fields.text("PAM_SERVICE", 64) != "sshd" or kind not in ("open_session", "close_session"):
        raise BadInput("not a login to sshd", code="malformed")
    pid, started, login = fields.number("pid", 1), fields.number("started"), fields.text("PAM_USER", 64)
    certificates, methods = _offered(fields.text("SSH_AUTH_INFO_0", 1 << 15))
    if len(certificates) != 1:
        how = How.KEY if "publickey" in methods else How.OTHER
        return kind, Accepted(pid, started, login, "", 0, how)
    body = certificates[0].body
    by = Accepted(pid, started, login, "", 0, How.CERTIFICATE, key=body.key.blob)
    return kind, replace(by, serial=body.serial, key_id=body.key_id[:KEY_ID_MAX], ca=body.ca.fingerprint)


def _offered(info: str) -> tuple[list[Certificate], set[str]]:
    """From lines as `publickey ssh-ed25519-cert-v01@openssh.com AAAA...` (sshd_config(5), ExposeAuthInfo)."""
    certificates, methods = [], set()
    for line in info.splitlines():
        words = line.split(" ")
        methods.add(words[0])
        if words[0] == "publickey" and len(words) >= 3 and "-cert-v01@openssh.com" in words[1]:  # noqa: PLR2004  # as above
            try:
                certificates.append(parse_certificate(from_base64(words[2], 1 << 15)))
            except (FormatError, BadInput):  # another CA's, of a kind that we do not make: sshd took it, not we
                continue
    return certificates, methods


def from_journal(unverified: bytes) -> Accepted | None:
    """An entry as `journalctl -o json` prints it; None for all that is not sshd's own word on a login."""
    if len(unverified) > ENTRY_MAX:
        return None
    try:
        entry = read_json(unverified, "an entry")
    except BadInput:
        return None
    if not isinstance(entry, dict) or not _is_sshds(entry):
        return None
    message, pid = entry.get("MESSAGE"), entry.get("_PID")
    if not isinstance(message, str) or len(message) > _LINE_MAX or not isinstance(pid, str) or not pid.isdecimal():
        return None
    line = _ACCEPTED.fullmatch(message)
    if not line:
        return None
    method, key = line["method"], line["key"]
    where = (line["source"], int(line["port"]))
    if method != "publickey":
        is_whole = key is None or _PRINCIPAL.fullmatch(key)
        return Accepted(int(pid), 0, line["login"], *where, How.OTHER) if is_whole else None
    if _PLAIN.fullmatch(key or ""):
        return Accepted(int(pid), 0, line["login"], *where, How.KEY)
    certificate = _CERTIFICATE.fullmatch(key or "")
    if not certificate:
        return None
    by = Accepted(int(pid), 0, line["login"], *where, How.CERTIFICATE)
    named = certificate["key_id"][:KEY_ID_MAX]
    return replace(by, serial=int(certificate["serial"]), key_id=named, ca=certificate["ca"])


def _is_sshds(entry: Mapping[str, object]) -> bool:
    program = entry.get("_EXE")
    return (
        entry.get("_UID") == "0"
        and entry.get("_TRANSPORT") == "syslog"
        and entry.get("_COMM") in _SSHD
        and isinstance(program, str)
        and program.startswith(("/usr/", "/opt/"))
        and program.rpartition("/")[2] in _SSHD
    )
