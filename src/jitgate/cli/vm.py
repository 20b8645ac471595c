"""jitctl vm: the machines that a person may reach."""

import os
import shlex
import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import click

from jitgate.cli import access, sshconfig
from jitgate.cli.answers import Gateway, Grant, Host, as_host, as_row, rows, text
from jitgate.cli.certificate import clean, offer_to_agent
from jitgate.cli.command import Command, Options, Remote, realm_option, remote_command
from jitgate.cli.out import data, say, table
from jitgate.cli.profile import Profile, Session, current
from jitgate.cli.service import LIST_MAX, Service, signed_in
from jitgate.cli.sshconfig import complete
from jitgate.cli.trust import trusted
from jitgate.core.clock import system_clock
from jitgate.core.errors import NotFound
from jitgate.ssh.cert import Certificate


@click.command("ls", cls=Command, examples="jitctl vm ls\njitctl vm ls --all\njitctl vm ls -o json")
@click.option(
    "--all", "everything", is_flag=True, help="Also those where a role of yours stops short, with the reason."
)
@click.pass_obj
def ls(options: Options, everything: bool) -> None:  # noqa: FBT001  # click gives it by name
    """List the machines that you may reach, and as whom."""
    with signed_in(current(options), options) as service:
        found = [(row, as_host(row)) for row in rows(service.get("/v1/hosts", limit=LIST_MAX), "hosts")]
    kept = [(row, host) for row, host in found if everything or host.permitted]
    several = len({host.realm for _, host in kept}) > 1
    lines = []
    for row, host in kept:
        labels = " ".join(f"{key}={text(as_row(row.get('labels')), key)}" for key in sorted(as_row(row.get("labels"))))
        notes = [f"{login.name}: {login.why}" for login in host.logins if login.why]
        note = "; ".join(notes) if len(host.logins) > 1 else "".join(login.why for login in host.logins)
        lines.append((host.name, *(host.realm,) * several, " ".join(host.permitted), labels, note))
    head = ("NAME", *("REALM",) * several, "LOGINS", "LABELS", "NOTE")
    data(options, [row for row, _ in kept], table(head, lines))
    if not kept:
        say(
            options,
            "there is no machine that you may reach" + ("" if everything else "; try --all, or jitctl explain NAME"),
        )


_CONNECT_EXAMPLES = """
    jitctl vm connect web1
    jitctl vm connect ubuntu@web1 --reason 'disk full, OPS-12'
    jitctl vm connect web1 -- journalctl -u nginx -n 50
    jitctl vm connect web1 --print
"""


@click.command("connect", cls=Remote, examples=_CONNECT_EXAMPLES)
@click.argument("name", required=False, shell_complete=complete)
@click.option("--login", metavar="LOGIN", help="As whom on the machine, if there is a choice.")
@click.option("--reason", metavar="TEXT", help="Why, in a sentence; asked for where a role wants it.")
@click.option("--ticket", metavar="TEXT", help="The ticket it is for, where a role's condition asks for one.")
@click.option("--minutes", type=click.IntRange(1, 60 * 24 * 366), help="For how long at most; the role may give less.")
@click.option("--role", metavar="ROLE", help="Under which role, if several would do.")
@realm_option
@click.option("--direct", is_flag=True, help="Dial the machine itself, not through the gateway.")
@click.option("--print", "only_print", is_flag=True, help="Print the ssh command instead of running it.")
@click.pass_context
def connect(
    ctx: click.Context,
    /,
    *,
    name: str | None,
    login: str | None,
    reason: str | None,
    ticket: str | None,
    minutes: int | None,
    role: str | None,
    realm: str | None,
    direct: bool,
    only_print: bool,
) -> None:
    """Connect to a machine by ssh: sign-in, grant, certificate, connection.

    NAME is as in `jitctl vm ls`; without it, the only machine or a choice. What stands after -- runs there instead of
    a shell. The exit status is ssh's: that of the remote command, or 255 if the connection failed.
    """
    options: Options = ctx.obj
    wish = access.parse_wish(access.Wish(name, login, role, reason, minutes, ticket, realm))
    ready = access.while_signed_in(options, partial(_prepare, wish, options))
    host, grant = ready.host, ready.grant
    remote = remote_command(ctx)
    command = ["ssh", "-F", str(sshconfig.config_file(ready.profile)), "-l", grant.login]
    command += ["-o", "ProxyCommand=none"] if direct else []
    command += ["--", host.alias, *remote] if remote else [host.alias]
    if only_print:
        document = {"command": command, "certificate": str(ready.path), "grant": grant.id}
        data(options, document, [shlex.join(command)])
        return
    way = f"{host.address} port {host.port}"
    if ready.gateway and not direct:
        way = f"through the gateway {ready.gateway.address} port {ready.gateway.port}"
    say(options, f"connecting to {host.name} ({way})")
    if not remote and "permit-pty" not in dict(ready.certificate.body.extensions):
        instead = f"jitctl vm connect {grant.login}@{host.name} -- COMMAND"
        say(options, f"role {grant.role} gives no terminal: give a command, {instead}")
    run_ssh(command)


@dataclass(frozen=True, slots=True)
class _Ready:
    """All that ssh needs: a grant, its certificate in a file, our ssh config, and the way there."""

    profile: Profile
    host: Host
    grant: Grant
    certificate: Certificate
    path: Path
    gateway: Gateway | None


def _prepare(wish: access.Wish, options: Options, profile: Profile, session: Session) -> _Ready:
    with Service(profile, options, trusted(profile), session) as service:
        hosts, known = access.hosts_of(service), access.about(service)
        host = access.find_host(service, hosts, wish, options)
        grant = access.open_grant(service, host, access.choose_login(host, wish.login, options), wish, options)
        with access.one_at_a_time(profile):
            certificate, path = access.certificate_for(service, host, grant, known, options)
            clean(profile, system_clock())
            with access.one_at_a_time(profile, access.CONFIG_LOCK):
                sshconfig.write(profile, hosts, access.about(service), options)
        offer_to_agent(profile, service.signer, certificate, path, system_clock())
    return _Ready(profile, host, grant, certificate, path, known.gateway)


def run_ssh(command: list[str]) -> None:
    """Becomes ssh, so that status, signals and terminal are its own."""
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        os.execvp(command[0], command)  # noqa: S606  # no shell
    except FileNotFoundError:
        raise NotFound("ssh is not installed", "install the OpenSSH client") from None
