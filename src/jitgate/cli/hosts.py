"""jitctl hosts: for administrators: hosts that join, wait, and what their agents say."""

from urllib.parse import quote

import click

from jitgate.cli import terminal
from jitgate.cli.answers import Row, as_row, rows, text, texts
from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, pairs, say, table_of, tell
from jitgate.cli.profile import current
from jitgate.cli.service import LIST_MAX, Service, signed_in
from jitgate.cli.times import parse, relative, until
from jitgate.core.clock import Micros, system_clock
from jitgate.core.errors import NotFound, UsageError
from jitgate.core.text import check_name, shown

_realm = click.option("--realm", default="default", show_default=True, help="The realm it is in.")


@click.command(
    "add",
    cls=Command,
    examples="jitctl hosts add web1 --login ubuntu --label env=prod\n"
    "jitctl hosts add web1 --login ubuntu --again  # another machine takes its place",
)
@click.argument("name")
@click.option("--login", "logins", multiple=True, required=True, help="An account that may be opened.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="What roles may ask for.")
@click.option("--address", default="", help="Where connections go.  [default: where it joins from]")
@click.option("--port", type=click.IntRange(1, 65535), default=22, show_default=True, help="Of its sshd.")
@click.option(
    "--reach",
    type=click.Choice(["dial", "agent"]),
    default="dial",
    show_default=True,
    help="agent: nothing can connect to it; its agent dials back for each session.",
)
@click.option(
    "--minutes", type=click.IntRange(1, 43200), default=60, show_default=True, help="How long the token lives."
)
@click.option("--again", is_flag=True, help="It may take the place of a host that has the name.")
@click.option("--provider", default="", help="An identity provider whose token the machine shows, instead of a secret.")
@click.option("--subject", default="", help="With --provider: the machine's `sub` there.")
@_realm
@click.pass_obj
def add(
    options: Options,
    /,
    *,
    name: str,
    logins: tuple[str, ...],
    labels: tuple[str, ...],
    address: str,
    port: int,
    reach: str,
    minutes: int,
    again: bool,
    provider: str,
    subject: str,
    realm: str,
) -> None:
    """Print a one-time token, by which one machine may join under this name.

    On the host, as root: `jitgate agent join`, which reads the token from a file or standard input. The token carries
    the service's address and the key that the host is to trust: bring it there by a way that you trust.
    """
    asked = {
        "name": check_name("host", name),
        "realm": check_name("realm", realm),
        "logins": [check_name("login", each) for each in logins],
        "labels": _labels(labels),
        "address": address,
        "port": port,
        "reach": reach,
        "minutes": minutes,
        "again": again,
    } | ({"provider": provider, "subject": subject} if provider or subject else {})
    with signed_in(current(options), options) as service:
        answer = service.post("/v1/hosts/tokens", asked)
    data(options, answer, [text(answer, "token")])
    ends = until(parse(text(answer, "expires_at")), system_clock())
    tell(f"the token is for {name}, once, until {ends}; on the host, as root: jitgate agent join")


@click.command("approve", cls=Command, examples="jitctl hosts approve web1\njitctl hosts approve web1 --key SHA256:...")
@click.argument("name")
@click.option("--key", metavar="SHA256:...", help="The host key that you saw on the host; else it is shown and asked.")
@_realm
@click.pass_obj
def approve(options: Options, /, *, name: str, key: str | None, realm: str) -> None:
    """Let in a host that waits, because its name stands already or it came without a token.

    Compare its key with what `ssh-keygen -l -f /etc/ssh/ssh_host_ed25519_key.pub` says on the host.
    """
    with signed_in(current(options), options) as service:
        if key is None:
            waiting = rows(_fleet(service), "waiting")
            row = next((each for each in waiting if (text(each, "name"), text(each, "realm")) == (name, realm)), None)
            if row is None:
                raise NotFound(f"no host {shown(name)} waits", "jitctl hosts ls")
            key = text(row, "fingerprint")
            tell(f"{name} waits, from {text(row, 'source')}, with the host key {key}")
            terminal.confirm(options, f"let in the host with the key {key} as {name}")
        answer = service.post(f"/v1/hosts/{quote(name, safe='')}/approve", {"fingerprint": key, "realm": realm})
    say(options, f"{name} is let in when it asks again")
    data(options, answer, ())


@click.command("ls", cls=Command, examples="jitctl hosts ls\njitctl hosts ls -o json")
@click.pass_obj
def ls(options: Options, /) -> None:
    """List all hosts: whether their agents are connected, and know of everything that was taken away."""
    with signed_in(current(options), options) as service:
        fleet = _fleet(service)
    hosts, waiting, now = rows(fleet, "hosts"), rows(fleet, "waiting"), system_clock()
    lines = [
        {
            "NAME": text(row, "name"),
            "REALM": text(row, "realm"),
            "ADDRESS": f"{text(row, 'address')}:{row.get('port')}",
            "LOGINS": " ".join(texts(row, "logins")),
            "LABELS": _label_text(row),
            "AGENT": _agent(row, now),
        }
        for row in hosts
    ]
    data(options, {"hosts": hosts, "waiting": waiting}, table_of(lines))
    if not hosts:
        say(options, "there is no host yet: jitctl hosts add NAME --login LOGIN")
    for row in waiting:
        if row.get("approved_at") is None:
            what = f"{text(row, 'name')} waits with the key {text(row, 'fingerprint')}"
            tell(f"{what}: jitctl hosts approve {text(row, 'name')}")


@click.command("show", cls=Command, examples="jitctl hosts show web1")
@click.argument("name")
@_realm
@click.pass_obj
def show(options: Options, /, *, name: str, realm: str) -> None:
    """Show one host and all that its agent said."""
    with signed_in(current(options), options) as service:
        row = _one(rows(_fleet(service), "hosts"), name, realm)
    now = system_clock()
    lines = [
        ("name", text(row, "name")),
        ("realm", text(row, "realm")),
        ("address", f"{text(row, 'address')}:{row.get('port')}"),
        ("logins", " ".join(texts(row, "logins"))),
        ("labels", _label_text(row)),
        ("host key", text(row, "fingerprint")),
        ("added", relative(parse(text(row, "added_at")), now)),
        ("agent", _agent(row, now)),
    ]
    if row.get("agent") is not None:
        agent = as_row(row["agent"])
        lines += [
            ("version", text(agent, "version", "")),
            ("knows of all that was revoked", _yes(agent, "current", "bundle_at", now)),
            ("trusts the current CA keys", _yes(agent, "trust_current", "trust_at", now)),
            *(
                ("problem", f"{text(each, 'code')}: {text(each, 'detail')}".rstrip(": "))
                for each in rows(agent, "problems")
            ),
        ]
    data(options, row, pairs(lines))


@click.command(
    "label", cls=Command, examples="jitctl hosts label web1 env=prod team=blue\njitctl hosts label web1 env-"
)
@click.argument("name")
@click.argument("changes", nargs=-1, required=True, metavar="KEY=VALUE|KEY-...")
@_realm
@click.pass_obj
def label(options: Options, /, *, name: str, changes: tuple[str, ...], realm: str) -> None:
    """Change what roles may ask for: KEY=VALUE sets a label, KEY- takes it away."""
    unset = [change[:-1] for change in changes if change.endswith("-") and "=" not in change]
    wanted = _labels(tuple(change for change in changes if not (change.endswith("-") and "=" not in change)))
    with signed_in(current(options), options) as service:
        asked = {"set": wanted, "unset": unset, "realm": realm}
        answer = service.post(f"/v1/hosts/{quote(check_name('host', name), safe='')}/labels", asked)
    host = as_row(answer["host"])
    data(options, host, [_label_text(host)])


@click.command("rm", cls=Command, examples="jitctl hosts rm web1")
@click.argument("name")
@_realm
@click.pass_obj
def rm(options: Options, /, *, name: str, realm: str) -> None:
    """Forget a host: nothing is issued for it any more, and its agent is refused. On it: `jitgate agent leave`."""
    with signed_in(current(options), options) as service:
        terminal.confirm(options, f"forget the host {check_name('host', name)}")
        service.delete(f"/v1/hosts/{quote(name, safe='')}?realm={quote(check_name('realm', realm), safe='')}")
    say(options, f"{name} is forgotten; on the host, as root: jitgate agent leave")


def _fleet(service: Service) -> Row:
    return service.get("/v1/hosts/agents", limit=LIST_MAX)


def _one(found: list[Row], name: str, realm: str) -> Row:
    row = next((each for each in found if (text(each, "name"), text(each, "realm")) == (name, realm)), None)
    if row is None:
        raise NotFound(f"no host {shown(name)} in the realm {shown(realm)}", "jitctl hosts ls")
    return row


def _agent(row: Row, now: Micros) -> str:
    """In a word or two, and what is wrong."""
    if row.get("agent") is None:
        return "none"
    agent = as_row(row["agent"])
    if not agent.get("connected"):
        said = f"away, seen {relative(parse(text(agent, 'seen_at')), now)}"
        return said if text(agent, "version", "") else "joined, not seen yet"
    wrong = [text(each, "code") for each in rows(agent, "problems")]
    if not agent.get("current"):
        wrong.insert(0, "behind")
    return ", ".join(wrong) or "ok"


def _yes(agent: Row, name: str, at: str, now: Micros) -> str:
    moment = text(agent, at, "")
    when = f", since {relative(parse(moment), now)}" if moment else ""
    return ("yes" if agent.get(name) else "no") + when


def _label_text(row: Row) -> str:
    labels = as_row(row.get("labels"))
    return " ".join(f"{key}={labels[key]}" for key in sorted(labels))


def _labels(given: tuple[str, ...]) -> dict[str, str]:
    labels: dict[str, str] = {}
    for each in given:
        key, sign, value = each.partition("=")
        if not sign or key in labels:
            raise UsageError(f"not a label, or one that stands twice: {shown(each)}", "write KEY=VALUE")
        labels[check_name("label key", key)] = check_name("label value", value)
    return labels
