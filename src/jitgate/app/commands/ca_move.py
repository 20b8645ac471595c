"""jitgate ca move: a CA key goes to another keeper."""

import time
from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.moving import KEEPERS, LEFT, Moved, leave_behind, move_key
from jitgate.app.operate import operate
from jitgate.app.settings import Settings
from jitgate.core.errors import Unreachable
from jitgate.ssh.pubkey import Algorithm

PATIENCE_S = 20.0  # until the signer has read signer.toml again and asked the keeper
_ALGORITHMS = [each.value for each in Algorithm if not each.is_sk]


@click.command(
    epilog=examples("""
    jitgate ca move user_ca --to sealed
    jitgate ca move user_ca --to pkcs11
    jitgate ca move pkcs11:user_ca --to transit --name user_ca-2027
    """)
)
@click.argument("key", metavar="KEY")
@click.option("--to", "keeper", type=click.Choice(KEEPERS), required=True, help="Who keeps it from now on.")
@click.option("--name", default="", metavar="LABEL", help="What it is called there.  [default: as before]")
@click.option("--algorithm", type=click.Choice(_ALGORITHMS), help="Of a new key.  [default: the old one's]")
@config_option
@output_option
def move(key: str, keeper: str, name: str, algorithm: str | None, config: Path, output: str) -> None:
    """Copy a CA key to another keeper; where the one it has does not let it out, begin a rotation to a new key there.

    KEY is a name in signer.toml, as `jitgate ca ls` shows it. The keeper's table must stand in signer.toml
    (docs/custody.md). Run it where the signer's files are, as root or as the signer's user.
    """
    settings = settings_of(config)
    moved = move_key(settings, key, keeper, name, Algorithm(algorithm) if algorithm else None)
    phase = _wait_until_held(settings, moved)
    told = {
        "name": moved.name,
        "fingerprint": moved.key.fingerprint,
        "realm": moved.realm,
        "kind": moved.kind.value,
        "copied": not moved.is_new,
    }
    if moved.is_new:
        click.echo(f"jitgate: {key} is not let out of where it is: made a new key, {moved.name}", err=True)
        asked = {"kind": moved.kind.value, "realm": moved.realm, "key": moved.key.fingerprint}
        operate(
            settings, "ca rotate start", asked | {"emergency": False, "reason": f"moved from {key} to {moved.name}"}
        )
        where = "" if moved.realm == "default" else f" --realm {moved.realm}"
        show(output, told, [moved.key.fingerprint])
        again = f"jitgate ca rotate advance --kind {moved.kind.value}{where} --wait"
        click.echo(f"jitgate: a rotation to it has begun: jitgate ca rotate status, then: {again}", err=True)
        return
    if phase != "found":  # what is not listed is nobody's yet
        operate(settings, "ca moved", {"key": moved.name, "before": key if moved.left else f"{key}, {_BEFORE[keeper]}"})
    left = leave_behind(moved)
    show(output, told, [moved.key.fingerprint])
    if left is not None:
        click.echo(f"jitgate: signs by {moved.name} from now on; hosts notice nothing", err=True)
        click.echo(f"jitgate: {left} is the same key, and worth as much: shred -u {left}", err=True)
    else:
        click.echo(
            f"jitgate: {moved.name} was written anew, {_FORM[keeper]}; copies and backups are as before", err=True
        )


_FORM = {"file": "in clear", "sealed": "sealed by age"}
_BEFORE = {"file": _FORM["sealed"], "sealed": _FORM["file"]}


def _wait_until_held(settings: Settings, moved: Moved) -> str:
    """The phase that the key is in."""
    until = time.monotonic() + PATIENCE_S
    why = ""
    while time.monotonic() < until:
        seen = operate(settings, "ca ls", {})
        rows = [row for row in seen["keys"] if row["file"] == moved.name and row["held"] == "yes"]
        if phases := [row["phase"] for row in rows if row["fingerprint"] == moved.key.fingerprint]:
            return str(phases[0])
        why = next((each["why"] for each in seen["refused"] if each["file"] == moved.name), "")
        time.sleep(0.3)
    what = f"the signer does not hold {moved.name}" + (f": {why}" if why else "")
    raise Unreachable(what, f"jitgate ca ls says why; the key is where it was, too (no name ends in {LEFT})")
