"""The way to a host, step by step: find it, ask for the grant, fetch the certificate. One line on stderr a step."""

import difflib
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from jitgate.cli import certificate as certs
from jitgate.cli import sshconfig, terminal
from jitgate.cli.answers import About, Grant, Host, Realm, Row, as_about, as_grant, as_host, as_row, rows, text, twice
from jitgate.cli.command import Options
from jitgate.cli.files import FILE_MODE
from jitgate.cli.out import say
from jitgate.cli.profile import Profile, Session
from jitgate.cli.service import LIST_MAX, Service
from jitgate.cli.signin import Given, session_or_sign_in, sign_in
from jitgate.cli.signing import Signer
from jitgate.cli.times import until
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, Conflict, Denied, NotFound, NotSignedIn, UsageError
from jitgate.core.text import check_name, check_reason, shown
from jitgate.ssh.cert import Certificate
from jitgate.ssh.pubkey import PublicKey

Done = TypeVar("Done")
CONFIG_LOCK = "ssh_config.lock"


class ReasonNeeded(Denied):
    """A role wants a reason, and nobody was asked."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What was asked for on the command line. `name` may be `login@host`, as people type it for ssh.

    `realm`: whose host it is, where a name stands in several.
    """

    name: str | None
    login: str | None = None
    role: str | None = None
    reason: str | None = None
    minutes: int | None = None
    ticket: str | None = None
    realm: str | None = None


def while_signed_in(options: Options, act: Callable[[Profile, Session], Done]) -> Done:
    """What the act gives; after a new sign-in, where that has ended and somebody can be asked."""
    profile, session = session_or_sign_in(options)
    try:
        return act(profile, session)
    except NotSignedIn as error:
        if not terminal.can_ask(options):
            raise
        say(options, error.what)
        return act(*sign_in(profile, options, Given(user=session.name)))


def hosts_of(service: Service, name: str | None = None) -> tuple[Host, ...]:
    """What the service has to say of hosts to this person; of those of that `name` only."""
    found = service.get("/v1/hosts", {"name": name} if name else None, limit=LIST_MAX)
    return tuple(as_host(row) for row in rows(found, "hosts"))


def fingerprints_of(service: Service) -> tuple[str, ...]:
    """Of this person's registered keys."""
    return tuple(text(row, "fingerprint") for row in rows(service.get("/v1/keys"), "keys"))


def about(service: Service) -> About:
    from jitgate.cli.revoked import keep_revoked  # noqa: PLC0415  # a start does without

    found = as_about(service.get("/.well-known/jitgate"))
    keep_revoked(service, found)
    return found


def parse_wish(wish: Wish) -> Wish:
    """The same with `login@host` and NAME.REALM.jitgate taken apart and every name checked; else `UsageError`."""
    name, login, realm = wish.name, wish.login, wish.realm
    if name and "@" in name:
        before, _, name = name.rpartition("@")
        if login not in (None, before):
            raise UsageError(f"two logins: {shown(before)} and {shown(login or '')}", "leave one out")
        login = before
    try:
        if name:
            name, said = _host_and_realm(name)
            if said and realm not in (None, said):
                raise UsageError(f"two realms: {shown(said)} and {shown(realm or '')}", "leave one out")
            realm = said or realm
        if realm:
            check_name("realm", realm)
        if login:
            check_name("login", login)
        if wish.role:
            check_name("role", wish.role)
        reason = check_reason(wish.reason) if wish.reason else wish.reason
        if wish.ticket:
            check_name("ticket", wish.ticket)
    except BadInput as error:
        raise UsageError(error.what, error.hint) from None
    return Wish(name, login, wish.role, reason, wish.minutes, wish.ticket, realm)


def _host_and_realm(name: str) -> tuple[str, str | None]:
    """A host's name, or its full one, NAME.REALM.jitgate. No host's name ends so."""
    parts = name.rsplit(".", 2)
    full = len(parts) == 3 and parts[2] == "jitgate"  # noqa: PLR2004  # name, realm and ending
    if not full:
        return check_name("host", name), None
    return check_name("host", parts[0]), check_name("realm", parts[1])


def find_host(service: Service, hosts: Sequence[Host], wish: Wish, options: Options) -> Host:
    """The host of the wish. One that no role opens is asked for all the same: the service says why not, and logs it."""
    try:
        return choose_host(hosts, wish.name, options, wish.realm)
    except NotFound as unknown:
        asked = asdict(replace(wish, name=None)) | {"host": wish.name}
        try:
            service.post("/v1/grants", {name: value for name, value in asked.items() if value is not None})
        except NotFound:
            raise unknown from None
        raise


def choose_host(hosts: Sequence[Host], name: str | None, options: Options, realm: str | None = None) -> Host:
    """The host of that name, or the only one that may be reached, or a numbered choice. Else `NotFound`.

    `Conflict` for a name that stands in several realms, where none is said.
    """
    hosts = [host for host in hosts if realm in (None, host.realm)]
    if name is not None:
        named = [host for host in hosts if host.name == name]
        if len(named) > 1:
            what = f"{name} stands in {len(named)} realms: {', '.join(host.realm for host in named)}"
            hint = f"say which: --realm {named[0].realm}, or the whole name {named[0].alias}"
            raise Conflict(what, hint, code="realm_needed")
        if named:
            return named[0]
        near = difflib.get_close_matches(name, [host.name for host in hosts], 1)
        raise NotFound(f"no host {shown(name)}", f"did you mean {near[0]}?" if near else "jitctl vm ls")
    reached = [host for host in hosts if host.permitted]
    if not reached:
        raise Denied("there is no host that you may reach", "ask who owns the roles, or see: jitctl vm ls --all")
    if len(reached) == 1:
        return reached[0]
    shown_names = [host.alias if twice(host, reached) else host.name for host in reached]
    return reached[terminal.choose(options, "host", shown_names, "jitctl vm connect NAME")]


def choose_login(host: Host, login: str | None, options: Options) -> str | None:
    """The login asked for, or the only one permitted, or a numbered choice; None lets the service say why not."""
    if login is not None or not host.permitted:
        return login
    if len(host.permitted) == 1:
        return host.permitted[0]
    return host.permitted[
        terminal.choose(
            options, f"login on {host.name}", host.permitted, f"add --login, as in --login {host.permitted[0]}"
        )
    ]


def open_grant(service: Service, host: Host, login: str | None, wish: Wish, options: Options) -> Grant:
    """An active grant: the one that runs already, or a new one. A reason that is wanted is asked for."""
    if wish.minutes is None and (running := running_grant(service, host, login, wish)):
        ends = until(running.ends_at, system_clock())
        say(options, f"grant by role {running.role} runs: {running.login} on {running.host} until {ends}")
        if wish.reason and wish.reason != running.reason:
            kept = shown(running.reason) if running.reason else "none"
            say(options, f"the reason on record stays {kept}; for another: jitctl grants end {running.id}")
        return running
    reason = wish.reason
    if reason is None and wish.role is None and (wanted := _wanted(host, login)):
        if not terminal.can_ask(options):
            raise ReasonNeeded(wanted, f"jitctl vm connect {login}@{host.name} --reason TEXT")
        say(options, wanted)
        reason = check_reason(terminal.ask(options, "reason"))
    asked: Row = asdict(replace(wish, name=None, login=login, reason=reason, realm=host.realm)) | {"host": host.name}
    answer = service.post("/v1/grants", {name: value for name, value in asked.items() if value is not None})
    grant = as_grant(as_row(answer.get("grant")))
    if (
        (grant.host, grant.realm) != (host.name, host.realm)
        or grant.login != (login or grant.login)
        or grant.role != (wish.role or grant.role)
    ):
        raise BadInput("the service granted something else than was asked for", "tell the service's owner")
    ends = until(grant.ends_at, system_clock())
    say(options, f"granted by role {grant.role}: {grant.login} on {grant.host} until {ends}")
    return grant


def grant_of_id(service: Service, grant_id: str, host: Host) -> Grant:
    """The grant of that id, running or not: whether it still gives anything is the service's to say."""
    answer = service.get("/v1/grants", {"all": "true"}, limit=LIST_MAX)
    found = next(
        (
            row
            for row in rows(answer, "grants")
            if row.get("id") == grant_id and row.get("host") == host.name and row.get("realm") == host.realm
        ),
        None,
    )
    if found is None:
        raise NotFound(f"no grant {shown(grant_id)} of yours for {host.name}", "jitctl grants ls --all")
    return as_grant(found)


def _wanted(host: Host, login: str | None) -> str:
    """What a permitted login still wants to be given, in the service's words; empty if nothing."""
    return next((known.why for known in host.logins if known.name == login and known.permitted), "")


def running_grant(service: Service, host: Host, login: str | None, wish: Wish) -> Grant | None:
    """One of this person's that gives what is asked for; the one that runs longest."""
    found = [
        as_grant(row)
        for row in rows(service.get("/v1/grants", {"host": host.name}), "grants")
        if (row.get("state"), row.get("host")) == ("active", host.name)  # one of a Vault mount is for no host by name
    ]
    fit = [
        g
        for g in found
        if (g.host, g.realm) == (host.name, host.realm)
        and g.login == (login or g.login)
        and g.role == (wish.role or g.role)
    ]
    return max(fit, key=lambda grant: grant.ends_at, default=None)


def fetch(
    service: Service, host: Host, grant: Grant, realms: Sequence[Realm], options: Options, signer: Signer | None = None
) -> certs.Fetched:
    """A certificate from the service, checked."""
    authorities = _authorities(realms, host)
    fetched = certs.request(service, grant, host, signer or service.signer, authorities)
    ends = until(certs.ends(fetched.certificate), system_clock())
    say(options, f"certificate {fetched.certificate.body.serial} for {grant.login} on {grant.host} until {ends}")
    return fetched


def _authorities(realms: Sequence[Realm], host: Host) -> list[PublicKey]:
    return [key for realm in realms if realm.name == host.realm for key in realm.user_ca]


def certificate_for(
    service: Service, host: Host, grant: Grant, known: About, options: Options
) -> tuple[Certificate, Path]:
    """The one that is kept for this grant and key, if it is good for a while; else a new one, kept."""
    profile, now = service.profile, system_clock()
    path = certs.good(profile, host.alias, grant.login, ticket=known.gateway is not None, now=now)
    found = certs.linked(profile, host.alias, grant.login)
    same = (
        found is not None
        and certs.grant_of(found) == grant.id
        and found.body.key == service.signer.public
        and found.body.ca in _authorities(known.realms, host)  # else the key was retired: hosts may refuse it
    )
    if path is not None and found is not None and same and not certs.used_up(found, now):
        return found, path
    fetched = fetch(service, host, grant, known.realms, options)
    with one_at_a_time(profile, CONFIG_LOCK):
        # asked for after the certificate and written before it is there for others: who has one then knows every host
        # key that was listed before it
        sshconfig.write_known_hosts(profile, about(service))
    return fetched.certificate, certs.keep(profile, host, fetched, grant)


@contextmanager
def one_at_a_time(profile: Profile, lock: str = "lock") -> Iterator[None]:
    """So that a hundred parallel ssh fetch one certificate. Held by the process, so it cannot be left behind.

    `lock`, a file: of the whole profile, of one login's certificate, or `CONFIG_LOCK`, which is taken last.
    """
    file = os.open(profile.folder / lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
