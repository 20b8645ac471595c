"""jitctl cert: certificates for plain ssh and for other programs."""

import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from jitgate.cli import access, sshconfig
from jitgate.cli.asked_by import ssh_may_ask
from jitgate.cli.certificate import good, kept, lock_file
from jitgate.cli.certwords import as_document, as_lines
from jitgate.cli.command import Command, Options, OwnOutput, realm_option
from jitgate.cli.files import write_private
from jitgate.cli.out import data, say
from jitgate.cli.profile import Profile, Session, current, load_session
from jitgate.cli.service import Service, signed_in
from jitgate.cli.signing import Signer, load_signer
from jitgate.cli.sshconfig import complete
from jitgate.cli.trust import trusted
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, Denied, NotFound, NotSignedIn
from jitgate.core.text import shown
from jitgate.ssh.cert import Certificate, parse_certificate_line
from jitgate.ssh.pubkey import BadSignature
from jitgate.ssh.wire import FormatError

_FILE_MAX = 1 << 18  # bytes; a certificate with 256 long principals takes less

_GET_EXAMPLES = """
    jitctl cert get web1
    jitctl cert get web1 --key ~/.ssh/id_ed25519 -o ~/.ssh/id_ed25519-cert.pub
    jitctl cert get ubuntu@web1 --reason 'deploy 1.4' -o /tmp/web1-cert.pub
"""


@click.command("get", cls=OwnOutput, examples=_GET_EXAMPLES)
@click.argument("host", shell_complete=complete)
@click.option("--key", metavar="FILE", help="For this registered key (see `jitctl keys`) instead of the profile's.")
@click.option("-o", "--out", metavar="FILE", help="Write the certificate there. Default: print it.")
@click.option("--login", metavar="LOGIN", help="As whom on the machine, if there is a choice.")
@click.option("--reason", metavar="TEXT", help="Why, in a sentence; asked for where a role wants it.")
@click.option("--ticket", metavar="TEXT", help="The ticket it is for, where a role's condition asks for one.")
@click.option("--minutes", type=click.IntRange(1, 60 * 24 * 366), help="For how long at most; the role may give less.")
@click.option("--role", metavar="ROLE", help="Under which role, if several would do.")
@realm_option
@click.option("--grant", "grant_id", metavar="ID", help="Renew under this grant of yours; none is opened then.")
@click.pass_obj
def get(
    options: Options,
    /,
    *,
    host: str,
    key: str | None,
    out: str | None,
    login: str | None,
    reason: str | None,
    ticket: str | None,
    minutes: int | None,
    role: str | None,
    realm: str | None,
    grant_id: str | None,
) -> None:
    """Get a certificate for HOST, for use with any ssh client.

    The ssh config for it is what `jitctl vm connect HOST --print` shows.
    """
    wish = access.parse_wish(access.Wish(host, login, role, reason, minutes, ticket, realm))
    with signed_in(current(options), options) as service:
        signer = _other_key(service, Path(key).expanduser()) if key else service.signer
        target = access.find_host(service, access.hosts_of(service), wish, options)
        if grant_id:
            grant = access.grant_of_id(service, grant_id, target)
        else:
            login = access.choose_login(target, wish.login, options)
            grant = access.open_grant(service, target, login, wish, options)
        certificate = access.fetch(service, target, grant, access.about(service).realms, options, signer).certificate
    line = certificate.line()
    if out is None or out == "-":
        body = certificate.body
        document = {"certificate": line, "serial": str(body.serial), "grant": grant.id, "principals": body.principals}
        data(options, document, [line])
        return
    _write(Path(out).expanduser(), line)
    say(options, f"written to {out}")


def _other_key(service: Service, path: Path) -> Signer:
    """Looked for before anything is asked for: no grant is opened for a key that the service would refuse."""
    signer = load_signer(path)
    if signer.public.fingerprint not in access.fingerprints_of(service):
        what = f"the key {shown(str(path), 200)} is not registered to you"
        raise Denied(what, f"jitctl keys add {path}", code="key_not_registered")
    return signer


def _write(path: Path, line: str) -> None:
    if path.exists() and not path.read_bytes()[:4096].split(b" ")[0].endswith(b"-cert-v01@openssh.com"):
        raise BadInput(f"{path} exists and is no certificate", "choose another file: -o FILE")
    write_private(path, f"{line}\n".encode())


@click.command("show", cls=Command, examples="jitctl cert show\njitctl cert show ~/.ssh/id_ed25519-cert.pub")
@click.argument("file", required=False)
@click.pass_obj
def show(options: Options, file: str | None) -> None:
    """Say in words what a certificate allows. Without FILE, all that are kept here; - is stdin."""
    found = [(file, _read(file))] if file else [(str(path), held) for path, held in kept(current(options))]
    now = system_clock()
    lines = [line for path, certificate in found for line in as_lines(path, certificate, now)]
    data(options, [as_document(path, certificate) for path, certificate in found], lines)
    if not found:
        say(options, "there is no certificate here; jitctl vm connect gets one")


def _read(file: str) -> "Certificate":
    try:
        with sys.stdin.buffer if file == "-" else Path(file).expanduser().open("rb") as opened:
            content = opened.read(_FILE_MAX)
    except FileNotFoundError:
        raise NotFound(f"no such file: {shown(file, 200)}") from None
    try:
        return parse_certificate_line(content.decode("utf-8", "replace").strip())
    except (FormatError, BadSignature) as error:
        raise BadInput(
            f"{shown(file, 200)} is no certificate that is taken: {error.what}", "give a -cert.pub file"
        ) from None


@click.command("renew", cls=Command, examples="jitctl cert renew web1\njitctl cert renew web1 --login ubuntu")
@click.argument("host", shell_complete=complete)
@click.option("--login", metavar="LOGIN", help="As whom on the machine, if there is a choice.")
@click.option("--for-ssh", is_flag=True, help="As ssh calls it: ask, if it is about to connect and on a terminal.")
@click.pass_obj
def renew(options: Options, /, *, host: str, login: str | None, for_ssh: bool) -> None:
    """Make sure that plain ssh has a certificate for HOST that is good for a while.

    Our ssh config calls this when the certificate is about to end. It fetches one under the grant that is active, or
    opens a grant where no reason is needed. It asks nothing, unless ssh itself calls it, on a terminal, to connect.
    There HOST is the full name, web1.default.jitgate.
    """
    options.no_input = options.no_input or not (for_ssh and ssh_may_ask())
    wish = access.parse_wish(access.Wish(host, login))
    profile = current(options)
    if wish.login and wish.realm and not profile.key:
        # what asks nothing does not wait for other hosts' certificates: a play begins with a hundred of these at once
        with (
            suppress(NotSignedIn, access.ReasonNeeded),
            access.one_at_a_time(profile, lock_file(profile, host, wish.login)),
        ):
            if not _has_one(profile, host, wish.login):
                _renew(wish, replace(options, no_input=True), profile, load_session(profile, system_clock()))
            return
    with access.one_at_a_time(profile):
        if wish.login and _has_one(profile, host, wish.login):
            return
        try:
            load_session(profile, system_clock())
        except NotSignedIn:
            options.quiet = options.quiet and options.no_input  # somebody has to see what a sign-in says
        access.while_signed_in(options, partial(_renew, wish, options))


def _has_one(profile: Profile, alias: str, login: str) -> bool:
    """Another ssh may have fetched it while this one waited."""
    return good(profile, alias, login, ticket=sshconfig.tunnelled(profile), now=system_clock()) is not None


def _renew(wish: access.Wish, options: Options, profile: Profile, session: Session) -> None:
    with Service(profile, options, trusted(profile), session) as service:
        hosts = access.hosts_of(service, wish.name) or access.hosts_of(service)
        target, known = access.find_host(service, hosts, wish, options), access.about(service)
        chosen = access.choose_login(target, wish.login, options)
        grant = access.open_grant(service, target, chosen, wish, options)
        access.certificate_for(service, target, grant, known, options)
        if sshconfig.config_file(profile).exists() and not sshconfig.is_current(profile, target, known.gateway):
            with access.one_at_a_time(profile, access.CONFIG_LOCK):  # addresses and gateway may be others now
                sshconfig.write_files(profile, access.hosts_of(service), access.about(service))
