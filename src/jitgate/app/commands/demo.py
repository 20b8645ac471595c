"""jitgate demo: the whole product on loopback."""

import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import click

from jitgate.app.commands.options import examples
from jitgate.app.demo.join import joined_hosts
from jitgate.app.demo.peers import PROVIDER
from jitgate.app.demo.tour import tour
from jitgate.app.demo.world import Member, World, open_world, write_json

OF_A_PERSON = ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "SSH_AUTH_SOCK")
"""What would lead jitctl out of the demo's homes."""


@click.command(
    epilog=examples("""
    jitgate demo
    jitgate demo --dex
    jitgate demo --keep --json demo.json
    """)
)
@click.option("--keep", is_flag=True, help="Stay up after the tour, until interrupted.")
@click.option(
    "--json", "json_file", type=click.Path(path_type=Path), help="Write what other programs need to FILE (0600)."
)
@click.option("--dex", is_flag=True, help="People from Dex with OpenLDAP behind it, their keys in OpenBao.")
def demo(*, keep: bool, json_file: Path | None, dex: bool) -> None:
    """Start everything on loopback with throw-away state, and walk through the main job.

    Service, signer, users with one-time codes, two stock sshd hosts: nothing is installed, nothing stays. Ends with 0
    only if every step did what it says. On a terminal it then stays up, with the commands to try.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # the second: its terminal was closed
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a text stream: the tour is followed live
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="jitgate-demo-") as folder:
        beside = "Dex, OpenLDAP, OpenBao, " if dex else ""
        click.echo(f"jitgate: starting {beside}service, signer and two hosts in {folder}", err=True)
        with open_world(Path(folder), dex=dex, trusted=False) as world, joined_hosts(world):
            if json_file is not None:
                write_json(world, json_file)
            tour(world)
            click.echo(f"\nEvery step did what it says ({time.monotonic() - began:.0f} s).")
            if keep or sys.stdout.isatty():
                _stay(world)


def _stay(world: World) -> None:
    alice, bob = world.people["alice"], world.people["bob"]
    lines = [
        "",
        "It stays up until you press Ctrl-C. To try it yourself, in another terminal:",
        "",
        f"    export HOME={alice.home}",
        f"    export JITGATE_CONFIG={world.config}",
        f"    export PATH={Path(sys.executable).parent}:$PATH",
        *([f"    unset {' '.join(found)}"] if (found := [name for name in OF_A_PERSON if name in os.environ]) else []),
        "    jitctl vm ls",
        "    jitctl vm connect ubuntu@web1 --reason 'looking around'",
        "    jitctl explain db1",
        "",
        "  Plain ssh, which does not look at HOME; the log, which bob may read; the server's side:",
        "",
        "    ssh -F ~/.ssh/config ubuntu@web1",
        f"    HOME={bob.home} jitctl audit --follow",
        "    jitgate user ls",
        "",
        "  The logins are stand-ins for one user without rights: echo $USER tells them apart.",
        *_sign_in_lines(world, alice),
    ]
    click.echo("\n".join(lines))
    try:
        signal.pause()
    except KeyboardInterrupt:
        click.echo("\njitgate: stopping", err=True)


def _sign_in_lines(world: World, alice: Member) -> list[str]:
    if world.peers:
        return [
            "  alice is signed in. To sign in anew, with your browser at Dex:",
            "",
            f"    jitctl login '{world.url}' --provider {PROVIDER}",
            f"    name alice   password {alice.password.reveal()}",
            "",
        ]
    return [
        "  alice is signed in. To sign in anew, with her password and an authenticator's code:",
        "",
        f"    jitctl login '{world.url}' --user alice",
        f"    password {alice.password.reveal()}   secret {alice.totp_secret.reveal()}",
        "",
    ]
