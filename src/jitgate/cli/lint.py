"""jitctl cert lint: what a certificate of any authority allows, in words, and what is dangerous about it."""

import sys
from pathlib import Path

import click

from jitgate.cli.answers import Row
from jitgate.cli.command import Command, Options
from jitgate.cli.out import coloured, data, pairs, plain
from jitgate.cli.times import until
from jitgate.core.clock import SECOND, Micros, rfc3339, system_clock
from jitgate.core.errors import NotFound
from jitgate.core.text import shown
from jitgate.ssh.lint import Finding, Severity, lint
from jitgate.ssh.loose import FOREVER, LooseCertificate, LooseKey, inner, read_loosely
from jitgate.ssh.wire import FormatError

_FILE_MAX = 1 << 20
_LISTED_MAX = 20  # principals on one line; -o json has all
_LAST = 253_402_300_799  # 9999-12-31T23:59:59Z: what lies beyond has no date
STATUS = {Severity.NOTE: 0, Severity.WARNING: 10, Severity.BROKEN: 11, Severity.DANGER: 12}
_PERMITS = {
    b"permit-pty": "a terminal",
    b"permit-port-forwarding": "port forwarding",
    b"permit-agent-forwarding": "agent forwarding",
    b"permit-X11-forwarding": "X11 forwarding",
    b"permit-user-rc": "~/.ssh/rc",
    b"no-touch-required": "signing without a touch",
}
_EXAMPLES = """
    jitctl cert lint ~/.ssh/id_ed25519-cert.pub
    jitctl cert lint /etc/ssh/ssh_host_ed25519_key-cert.pub -o json
"""


@click.command("lint", cls=Command, examples=_EXAMPLES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@click.pass_obj
def lint_(options: Options, files: tuple[str, ...]) -> None:
    """Say what a certificate allows, and what is dangerous about it for sshd 7.4 to 10.x.

    For certificates of any authority; - is stdin. Nothing is asked of a service. Exit status: 0 if there is nothing
    but notes, 10 for a warning, 11 for what sshd will not take, 12 for a danger; the gravest of all files.
    """
    now = system_clock()
    documents: list[Row] = []
    lines: list[str] = []
    worst = Severity.NOTE
    for file in files:
        for number, line in _certificates(file):
            place = f"{file}:{number}" if number > 1 else file
            certificate, found = _look(line, now)
            worst = max([worst, *(finding.severity for finding in found)])
            documents.append(_as_document(place, certificate, found))
            lines += [plain(place), *(f"  {each}" for each in _words(certificate, now)), *map(_as_line, found)]
            if not found:
                lines.append("  ok")
    data(options, documents, lines)
    if STATUS[worst]:
        raise click.exceptions.Exit(STATUS[worst])


def _certificates(file: str) -> list[tuple[int, str]]:
    """Number and text of each line of a file that is not empty."""
    try:
        with sys.stdin.buffer if file == "-" else Path(file).expanduser().open("rb") as opened:
            content = opened.read(_FILE_MAX)
    except FileNotFoundError:
        raise NotFound(f"no such file: {shown(file, 200)}") from None
    lines = enumerate(content.decode("utf-8", "replace").split("\n"), 1)
    return [(number, line.strip()) for number, line in lines if line.strip()] or [(1, "")]


def _look(line: str, now: Micros) -> tuple[LooseCertificate | None, list[Finding]]:
    try:
        certificate = read_loosely(line)
    except FormatError as error:
        what = f"no sshd can read it: {error.what}"
        return None, [Finding(Severity.BROKEN, "unreadable", what, error.hint, refused_from=(0, 0))]
    return certificate, lint(certificate, now // SECOND)


def _words(certificate: LooseCertificate | None, now: Micros) -> list[str]:
    if certificate is None:
        return []
    names = certificate.principals
    listed = ", ".join(map(_text, names[:_LISTED_MAX])) + (f" and {len(names) - 20} more" if len(names) > 20 else "")  # noqa: PLR2004  # _LISTED_MAX
    allowed = {name for name, _ in certificate.extensions}
    own = [_option(name, value) for name, value in certificate.extensions if name not in _PERMITS]
    user = not certificate.is_host
    return pairs(
        [
            ("kind", "for a user" if certificate.type == 1 else "for a host" if certificate.is_host else "for nobody"),
            ("logs in as" if user else "names", listed or "(nobody is named)"),
            ("time", _time(certificate, now)),
            ("may", ", ".join(words for name, words in _PERMITS.items() if name in allowed and user)),
            ("condition", "; ".join(_option(name, value) for name, value in certificate.options)),
            ("also says", ", ".join(own)),
            ("key", _key(certificate.key)),
            ("signed by", f"{_key(certificate.ca)}, {certificate.signature_kind}"),
            ("serial", str(certificate.serial)),
            ("key id", _text(certificate.key_id)),
        ]
    )


def _time(certificate: LooseCertificate, now: Micros) -> str:
    start, end = certificate.valid_after, certificate.valid_before
    begins = f"from {until(start * SECOND, now)} " if now // SECOND < start <= _LAST else ""
    if end == FOREVER:
        return f"{begins}for ever"
    if end > _LAST:
        return f"{begins}beyond the year 9999"
    return f"{begins}{'ended' if end * SECOND <= now else 'until'} {until(end * SECOND, now)}"


def _as_line(finding: Finding) -> str:
    more = "; ".join(filter(None, (finding.versions, finding.hint)))
    word = coloured("warning") if finding.severity is Severity.WARNING else finding.severity.name.lower()
    return f"  {word}: {plain(finding.what)}" + (f" ({plain(more)})" if more else "")


def _as_document(place: str, certificate: LooseCertificate | None, found: list[Finding]) -> Row:
    said: Row = {}
    if certificate is not None:
        said = {
            "type": {1: "user", 2: "host"}.get(certificate.type, str(certificate.type)),
            "key": {"type": certificate.key.kind, "fingerprint": certificate.key.fingerprint},
            "ca": {"type": certificate.ca.kind, "fingerprint": certificate.ca.fingerprint},
            "signature": certificate.signature_kind,
            "serial": str(certificate.serial),
            "key_id": _raw(certificate.key_id),
            "principals": list(map(_raw, certificate.principals)),
            "valid_after": _date(certificate.valid_after),
            "valid_before": _date(certificate.valid_before),
            "critical_options": {_raw(name): _value(data) for name, data in certificate.options},
            "extensions": {_raw(name): _value(data) for name, data in certificate.extensions},
        }
    findings = [
        {
            "severity": each.severity.name.lower(),
            "code": each.code,
            "what": each.what,
            "versions": each.versions,
            "hint": each.hint,
        }
        for each in found
    ]
    return {"file": place, "certificate": said, "findings": findings}


def _date(seconds: int) -> str | None:
    return rfc3339(seconds * SECOND) if seconds <= _LAST else None


def _option(name: bytes, value: bytes) -> str:
    said = _value(value)
    return f"{_text(name)}={said}" if said else _text(name)


def _value(value: bytes) -> str:
    found = inner(value)
    return _raw(value if found is None else found)


def _key(key: LooseKey) -> str:
    bits = f" {key.bits}" if key.bits else ""
    return f"{key.kind}{bits} {key.fingerprint}"


def _raw(text: bytes) -> str:
    return text.decode("utf-8", "backslashreplace")


def _text(text: bytes) -> str:
    return plain(_raw(text)) or "''"
