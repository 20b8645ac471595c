"""jitctl revoke: taking back a certificate, key, person, host, grant or CA key, and seeing that hosts know of it."""

import os
import sys
import time
from pathlib import Path

import click

from jitgate.cli.answers import Row, as_row, check_id, rows, text, texts, whole
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, plain, say, table_of, warn
from jitgate.cli.profile import current
from jitgate.cli.service import LIST_MAX, Service, signed_in
from jitgate.cli.terminal import confirm
from jitgate.cli.times import parse, relative
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, NotFound, NotSignedIn
from jitgate.core.text import check_reason, shown
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.pubkey import BadSignature, parse_public_key_line
from jitgate.ssh.wire import FormatError

WAIT_S = 30.0
_EACH_S = 0.3
_FILE_MAX = 1 << 18
_NAMED_MAX = 20  # hosts on one line; -o json has all

_REASON = click.option("--reason", metavar="TEXT", help="Why, for the log.")
_WAIT = click.option(
    "--wait", type=click.FloatRange(0, 3600), default=WAIT_S, help="Seconds to wait for hosts to say that they know."
)
_CA = click.option("--ca", metavar="SHA256:...", default="", help="By which CA key; default: the one that it can be.")
_REALM = click.option("--realm", metavar="NAME", default="default", help="In which realm.")


@click.command("certificate", cls=Command, examples="jitctl revoke certificate 4611686018427390001 --reason leaked")
@click.argument("serial")
@_CA
@_REASON
@_WAIT
@click.pass_obj
def certificate(options: Options, /, *, serial: str, ca: str, reason: str | None, wait: float) -> None:
    """Revoke a certificate, by its SERIAL or its file. Its grant ends too: else the next one would follow at once."""
    if not serial.isdigit():
        serial, ca = _of_file(serial, ca)
    _revoke(options, "certificate", serial, reason, wait, ca=ca)


@click.command("serials", cls=Command, examples="jitctl revoke serials 4611686018427390001-4611686018427391000")
@click.argument("range", metavar="FIRST-LAST")
@_CA
@_REALM
@_REASON
@_WAIT
@click.pass_obj
def serials(options: Options, /, *, range: str, ca: str, realm: str, reason: str | None, wait: float) -> None:  # noqa: A002  # the argument's name
    """Revoke every certificate of a CA key from one serial to another; their grants end. For administrators."""
    confirm(options, f"revoke the serials {range}, and end their grants")
    _revoke(options, "serials", range, reason, wait, ca=ca, realm=realm)


@click.command("key", cls=Command, examples="jitctl revoke key ~/.ssh/id_ed25519.pub\njitctl revoke key SHA256:...")
@click.argument("key")
@_REASON
@_WAIT
@click.pass_obj
def key(options: Options, /, *, key: str, reason: str | None, wait: float) -> None:
    """Revoke a public key for good, and every certificate for it. KEY is a .pub file, a fingerprint or an id."""
    if not key.startswith("SHA256:") and not _is_id(key):
        key = _key_of_file(key)
    _revoke(options, "key", key, reason, wait)


@click.command("person", cls=Command, examples="jitctl revoke person alice --reason 'laptop stolen'")
@click.argument("name")
@_REASON
@_WAIT
@click.pass_obj
def person(options: Options, /, *, name: str, reason: str | None, wait: float) -> None:
    """Revoke all that a person has: sign-ins, grants, certificates, sessions and keys. They may sign in anew."""
    confirm(options, f"revoke everything of {name}")
    _revoke(options, "person", name, reason, wait)


@click.command("host", cls=Command, examples="jitctl revoke host web1 --reason 'disk was sold'")
@click.argument("name")
@_REALM
@_REASON
@_WAIT
@click.pass_obj
def host(options: Options, /, *, name: str, realm: str, reason: str | None, wait: float) -> None:
    """Revoke a host's key and certificates, end the grants on it, and forget it. For administrators."""
    confirm(options, f"revoke the host {name}, and forget it")
    _revoke(options, "host", name, reason, wait, realm=realm)


@click.command("grant", cls=Command, examples="jitctl revoke grant 01J8Z0K3V4WQ2M5N6P7R8S9TAB")
@click.argument("id")
@_REASON
@_WAIT
@click.pass_obj
def grant(options: Options, /, *, id: str, reason: str | None, wait: float) -> None:  # noqa: A002  # the argument's name
    """End a grant, with every certificate under it and every session."""
    _revoke(options, "grant", check_id(id), reason, wait)


@click.command("ca", cls=Command, examples="jitctl revoke ca SHA256:... --reason 'key was copied'")
@click.argument("fingerprint")
@_REASON
@_WAIT
@click.pass_obj
def ca(options: Options, /, *, fingerprint: str, reason: str | None, wait: float) -> None:
    """Revoke a CA key, and with it all that it signed. It signs no more. For administrators."""
    confirm(options, f"revoke the CA key {fingerprint}, and every certificate by it")
    _revoke(options, "ca", fingerprint, reason, wait)


@click.command("ls", cls=Command, examples="jitctl revoke ls\njitctl revoke ls --everybody -o json")
@click.option("--everybody", is_flag=True, help="Other people's too; for administrators.")
@click.pass_obj
def ls(options: Options, *, everybody: bool) -> None:
    """List what was revoked."""
    with signed_in(current(options), options) as service:
        query = {"everybody": str(everybody).lower()}
        found = rows(service.get("/v1/revocations", query, limit=LIST_MAX), "revocations")
    now = system_clock()
    lines = [
        {
            "ID": text(row, "id"),
            "WHEN": relative(parse(text(row, "made_at")), now),
            "BY": text(row, "made_by"),
            "WHAT": text(row, "what"),
            "CERTIFICATES": str(whole(row, "serials")),
            "KEYS": str(whole(row, "keys")),
            "SUBJECT": text(row, "subject"),
        }
        for row in found
    ]
    data(options, found, table_of(lines))
    if not found:
        say(options, "nothing was revoked")


@click.command("show", cls=Command, examples="jitctl revoke show 01J8Z0K3V4WQ2M5N6P7R8S9TAB")
@click.argument("id")
@click.option("--wait", type=click.FloatRange(0, 3600), default=0.0, help="Seconds to wait for hosts.")
@click.pass_obj
def show(options: Options, id: str, wait: float) -> None:  # noqa: A002  # the argument's name
    """Say how far hosts know of a revocation."""
    check_id(id, "jitctl revoke ls")
    with signed_in(current(options), options) as service:
        _report(options, _follow(options, service, service.get(f"/v1/revocations/{id}"), wait))


def _revoke(options: Options, what: str, subject: str, reason: str | None, wait: float, **more: str) -> None:
    order = {"what": what, "subject": subject} | {name: value for name, value in more.items() if value}
    if reason:
        order["reason"] = check_reason(reason)
    with signed_in(current(options), options) as service:
        answer = service.post("/v1/revocations", order)
        made = as_row(answer.get("revocation"))
        say(options, what_was(made))
        _report(options, _follow(options, service, answer, wait))


def _follow(options: Options, service: Service, answer: Row, wait: float) -> Row:
    """Ask until every host with an agent knows, or the time is up; on a terminal one line that changes."""
    end = time.monotonic() + wait
    path = f"/v1/revocations/{check_id(text(as_row(answer.get('revocation')), 'id'))}"
    live = not options.quiet and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
    while whole(as_row(answer.get("progress")), "waiting_count") and time.monotonic() < end:
        if live:
            sys.stderr.write(f"\r\033[Kjitctl: {plain(words(as_row(answer.get('progress'))))}")
            sys.stderr.flush()
        time.sleep(_EACH_S)
        try:
            answer = service.get(path)
        except NotSignedIn:
            say(options, "you are signed out by that, so how far hosts know of it is not shown")
            break
    if live:
        sys.stderr.write("\r\033[K")
    return answer


def _report(options: Options, answer: Row) -> None:
    progress = as_row(answer.get("progress"))
    data(options, answer, [words(progress)])
    waiting, without = whole(progress, "waiting_count"), whole(progress, "without_agent_count")
    if without:
        say(options, f"without an agent, good there until it ends: {named(progress, 'without_agent', without)}")
    if waiting:
        warn(f"no answer yet from {named(progress, 'waiting', waiting)}")
        identifier = text(as_row(answer.get("revocation")), "id")
        say(options, f"to look again: jitctl revoke show {identifier} --wait 60")
        raise click.exceptions.Exit(1)


def what_was(made: Row) -> str:
    counts = f"{_many(whole(made, 'serials'), 'certificate')}, {_many(whole(made, 'keys'), 'key')}"
    return f"revoked {text(made, 'what')} {text(made, 'subject')}: {counts} ({text(made, 'id')})"


def words(progress: Row) -> str:
    """How far it has got."""
    slowest = progress.get("slowest_s")
    took = f", slowest {slowest:.1f} s" if isinstance(slowest, int | float) else ""
    return f"revoked on {whole(progress, 'told')}/{whole(progress, 'hosts')} hosts{took}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def named(progress: Row, which: str, count: int) -> str:
    """Names of hosts are told to administrators; to others, how many."""
    names = texts(progress, which)
    if not names:
        return _many(count, "host")
    more = f" and {count - _NAMED_MAX} more" if count > _NAMED_MAX else ""
    return " ".join(names[:_NAMED_MAX]) + more


def _is_id(value: str) -> bool:
    try:
        return bool(check_id(value))
    except BadInput:
        return False


def _key_of_file(file: str) -> str:
    """The key's line without its comment: a comment may say more than the service needs to know."""
    try:
        return parse_public_key_line(_line(file))[0].line()
    except FormatError as error:
        raise BadInput(f"{shown(file, 200)} holds no public key: {error.what}", "give a .pub file") from None


def _of_file(file: str, authority: str) -> tuple[str, str]:
    """Serial and CA of a certificate's file."""
    try:
        body = parse_certificate_line(_line(file)).body
    except (FormatError, BadSignature) as error:
        raise BadInput(
            f"{shown(file, 200)} holds no certificate: {error.what}", "a -cert.pub file, or a serial"
        ) from None
    return str(body.serial), authority or body.ca.fingerprint


def _line(file: str) -> str:
    try:
        with Path(file).expanduser().open("rb") as opened:
            return opened.read(_FILE_MAX).decode("utf-8", "replace").strip()
    except FileNotFoundError:
        raise NotFound(f"no such file: {shown(file, 200)}") from None
