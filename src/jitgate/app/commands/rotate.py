"""jitgate ca rotate: a CA key is replaced step by step, and nothing stops meanwhile."""

import time
from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, realm_option, settings_of, show
from jitgate.app.control import Json
from jitgate.app.key_files import make_next_key
from jitgate.app.operate import operate
from jitgate.app.settings import Settings
from jitgate.ca.realms import CaKind
from jitgate.cli.out import table
from jitgate.core.errors import Error, Unreachable

PATIENCE_S = 15.0  # until the signer has seen a new file twice
LOOK_S = 1.0
SHOWN = 10  # obstacles that a waiting command repeats
_HELD_UP = "rotation_held_up"
_KINDS = [CaKind.USER.value, CaKind.HOST.value, CaKind.INTERCEPTION.value]
_WORDS = {
    "trust": "the new key is trusted, the old one signs",
    "use": "the new key signs, the old one is trusted for what it signed",
    "retire": "nothing by the old key is trusted any more",
    "done": "nobody has the old key any more: destroy its private half",
    "aborted": "the old key signs, as before",
}

_kind = click.option("--kind", type=click.Choice(_KINDS), required=True, help="Which key is replaced.")
_reason = click.option("--reason", default="", metavar="TEXT", help="For the log.")


@click.command(epilog=examples("jitgate ca rotate plan --kind user\njitgate ca rotate plan --kind host --realm eu"))
@_kind
@realm_option
@config_option
@output_option
def plan(kind: str, realm: str, config: Path, output: str) -> None:
    """Show what a rotation would do, and which hosts would have to be told by hand. Changes nothing."""
    seen = operate(settings_of(config), "ca rotate plan", {"kind": kind, "realm": realm})
    by_hand = [host["name"] for host in seen["hosts"] if not host["agent"]]
    rows = [(h["name"], "agent" if h["agent"] else "trust file", h["told_at"] or "never") for h in seen["hosts"]]
    lines = [
        f"signs now   {seen['active']['fingerprint']} ({kind} certificates of {realm})",
        *(f"trusted     {each['fingerprint']}" for each in seen["listed"]),
        "",
        "1. trust    a new key is listed; " + _TRUSTED[kind],
        "2. use      it signs; " + _USED[kind],
        "3. retire   the old key is trusted no more; hosts forget it",
        "4. done     its private half is destroyed",
        "",
        *table(("HOST", "IS TOLD BY", "LAST"), rows),
    ]
    show(output, seen, lines)
    if seen["running"]:
        click.echo(f"jitgate: a plan runs already, and is at {seen['running']['step']}", err=True)
    if by_hand and kind != CaKind.INTERCEPTION:
        names = " ".join(by_hand[:SHOWN]) + (" ..." if len(by_hand) > SHOWN else "")
        click.echo(f"jitgate: to be told by hand (jitgate host renew, jitgate host trust): {names}", err=True)


_TRUSTED = {
    "user": "goes on when each host has it",
    "host": "goes on when nobody's certificate is older than that: people's machines have it then",
    "interception": "goes on when nobody's certificate is older than that: people's machines have it then",
}
_USED = {
    "user": "goes on when the last certificate by the old one has ended",
    "host": "goes on when each host shows a certificate by the new one",
    "interception": "goes on when the last certificate by the old one has ended",
}


@click.command(
    epilog=examples("""
    jitgate ca rotate start --kind user
    jitgate ca rotate start --kind user --key user_ca-hsm
    jitgate ca rotate start --kind user --key user_ca-backup --emergency --reason 'laptop with the key was stolen'
    """)
)
@_kind
@realm_option
@config_option
@output_option
@click.option(
    "--key", metavar="NAME|FINGERPRINT", help="The new key, held by the signer; else one is made in its folder."
)
@click.option("--emergency", is_flag=True, help="The old key was stolen: revoke all it signed, use the new one, now.")
@_reason
def start(kind: str, realm: str, config: Path, output: str, key: str | None, reason: str, *, emergency: bool) -> None:
    """Begin a plan: the new key is trusted from now on.

    With --emergency the old key and all that it signed are revoked at once, and the new key signs. Hosts that do not
    trust it yet refuse people until they do; with a backup key, which they trust already, nobody is refused.
    """
    settings = settings_of(config)
    wanted = key or _made(settings, realm, kind)
    told = {"kind": kind, "realm": realm, "key": wanted, "emergency": emergency, "reason": reason}
    _say(operate(settings, "ca rotate start", told), output)


@click.command(epilog=examples("jitgate ca rotate status\njitgate ca rotate status -o json"))
@config_option
@output_option
def status(config: Path, output: str) -> None:
    """Show the plans that run, and what holds each of them up."""
    plans = operate(settings_of(config), "ca rotate status", {})["plans"]
    lines = [line for each in plans for line in (*_lines(each), "")]
    show(output, plans, lines[:-1])
    if not plans:
        click.echo("jitgate: no plan runs; jitgate ca rotate start", err=True)


@click.command(
    epilog=examples("""
    jitgate ca rotate advance --kind user
    jitgate ca rotate advance --kind user --wait
    jitgate ca rotate advance --kind user --waive old-box --reason 'is being taken down'
    """)
)
@_kind
@realm_option
@config_option
@output_option
@click.option("--wait", is_flag=True, help="Wait until nothing holds it up.")
@click.option("--waive", "waived", multiple=True, metavar="HOST", help="This host holds it up no more; it is logged.")
@_reason
def advance(
    kind: str, realm: str, config: Path, output: str, waived: tuple[str, ...], reason: str, *, wait: bool
) -> None:
    """Take the plan's next step, if nothing holds it up; else say what does."""
    settings = settings_of(config)
    told = {"kind": kind, "realm": realm, "reason": reason}
    if waived:
        operate(settings, "ca rotate waive", told | {"hosts": list(waived)})
    said = ""
    while True:
        try:
            done = operate(settings, "ca rotate advance", told)
        except Error as error:
            if not wait or error.code != _HELD_UP:
                raise
            if error.what != said:
                said = error.what
                click.echo(f"jitgate: {said}", err=True)
            time.sleep(LOOK_S)
        else:
            _say(done, output)
            return


@click.command(epilog=examples("jitgate ca rotate abort --kind user --reason 'the HSM is not ready'"))
@_kind
@realm_option
@config_option
@output_option
@_reason
def abort(kind: str, realm: str, config: Path, output: str, reason: str) -> None:
    """End the plan and go back to the old key, as long as that is not retired."""
    told = {"kind": kind, "realm": realm, "reason": reason}
    _say(operate(settings_of(config), "ca rotate abort", told), output)


def _made(settings: Settings, realm: str, kind: str) -> str:
    """A new key in the signer's folder; its fingerprint, as soon as the signer holds it."""
    rows = operate(settings, "ca ls", {})["keys"]
    signing = [row for row in rows if (row["realm"], row["kind"], row["phase"]) == (realm, kind, "active")]
    if not signing or not signing[0]["file"]:
        raise Unreachable(
            f"the signer holds no {kind} key of {realm} that signs", "jitgate ca ls says why; or name one: --key"
        )
    name = make_next_key(settings, realm, CaKind(kind), signing[0]["file"])
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        held = [row for row in operate(settings, "ca ls", {})["keys"] if row["file"] == name]
        if held:
            click.echo(f"jitgate: made the key {name}", err=True)
            return str(held[0]["fingerprint"])
        time.sleep(0.3)
    raise Unreachable(f"the signer does not hold the new key {name}", "jitgate ca ls says why")


def _say(progress: Json, output: str) -> None:
    show(output, progress, _lines(progress))
    if progress["next"] and not progress["obstacles"]:
        again = f"--kind {progress['kind']}" + (
            f" --realm {progress['realm']}" if progress["realm"] != "default" else ""
        )
        click.echo(f"jitgate: nothing holds it up: jitgate ca rotate advance {again}", err=True)


def _lines(progress: Json) -> list[str]:
    lines = [
        f"plan        {progress['kind']} CA of {progress['realm']}" + " (emergency)" * progress["emergency"],
        f"step        {progress['step']}: {_WORDS[progress['step']]}",
        f"old         {progress['old']['fingerprint']} ({progress['old']['phase']})",
        f"new         {progress['new']['fingerprint']} ({progress['new']['phase']})",
    ]
    if progress["waived"]:
        lines.append(f"waived      hosts: {progress['waived']}")
    return lines + [f"held up     {each['what']}" for each in progress["obstacles"]]
