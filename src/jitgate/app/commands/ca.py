"""jitgate ca: which CA keys are trusted, and which one signs."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import table
from jitgate.core.errors import BadInput

PUBLIC_MAX = 16 * 1024  # bytes; a line with the largest RSA key has some 3000


@click.command(
    epilog=examples("""
    jitgate ca add user_ca-2027
    jitgate ca add ./user_ca-2027.pub --kind user
    """)
)
@click.argument("key", metavar="FILE|NAME")
@config_option
@output_option
@click.option(
    "--kind",
    type=click.Choice(["user", "host", "interception"]),
    help="What it signs, if the signer does not hold it yet.",
)
@click.option("--realm", default="", help="Whose it is, if the signer does not hold it yet.  [default: default]")
def add(key: str, config: Path, output: str, kind: str | None, realm: str) -> None:
    """List a CA key: it is trusted from now on, and signs nothing yet.

    NAME is a file in the folder of CA keys, or the fingerprint of a key that the signer holds. FILE is its public half,
    which can be listed before the private half is there.
    """
    told = {"key": key, "line": _public_half(key), "kind": kind, "realm": realm}
    done = operate(settings_of(config), "ca add", told)
    show(output, done, [done["fingerprint"]])
    rest = (
        "each host needs it: jitgate host renew NAME, and on the host jitgate host trust; then: jitgate ca use"
        if done["kind"] == "user"
        else "jitctl fetches it with everybody's next request; then: jitgate ca use"
    )
    click.echo(f"jitgate: listed for {done['kind']} certificates of {done['realm']}; {rest}", err=True)


@click.command(epilog=examples("jitgate ca ls\njitgate ca ls -o json"))
@config_option
@output_option
def list_keys(config: Path, output: str) -> None:
    """List the CA keys: found (held and not listed), listed (trusted), active (signs), retired."""
    done = operate(settings_of(config), "ca ls", {})
    rows = [(k["kind"], k["realm"], k["phase"], k["file"] or "-", k["held"], k["fingerprint"]) for k in done["keys"]]
    show(output, done, table(("KIND", "REALM", "PHASE", "FILE", "HELD", "FINGERPRINT"), rows))
    for each in done["refused"]:
        click.echo(f"jitgate: {each['file']} is not used: {each['why']}", err=True)
        if each["hint"]:
            click.echo(f"jitgate: hint: {each['hint']}", err=True)


@click.command(epilog=examples("jitgate ca use user_ca-2027\njitgate ca use SHA256:7tb0..."))
@click.argument("key", metavar="NAME|FINGERPRINT")
@config_option
@output_option
@click.option("--anyway", is_flag=True, help="Though hosts have not been told of it: they refuse what it signs.")
def use(key: str, config: Path, output: str, *, anyway: bool) -> None:
    """Sign with a listed key from now on. The one before stays trusted until it is retired.

    With this you say that the hosts have it: a host whose trust file is older than the key's listing stops it.
    """
    done = operate(settings_of(config), "ca use", {"key": key, "anyway": anyway})
    show(output, done, [done["fingerprint"]])
    click.echo(f"jitgate: signs {done['kind']} certificates of {done['realm']} from now on", err=True)
    if done["previous"]:
        click.echo(f"jitgate: when nothing by it is left: jitgate ca retire {done['previous']}", err=True)


@click.command(epilog=examples("jitgate ca retire SHA256:Qk3x..."))
@click.argument("key", metavar="NAME|FINGERPRINT")
@config_option
@output_option
def retire(key: str, config: Path, output: str) -> None:
    """Trust nothing by this key any more. Hosts forget it with their next trust file."""
    done = operate(settings_of(config), "ca retire", {"key": key})
    show(output, done, [done["fingerprint"]])
    click.echo("jitgate: retired; hosts forget it with: jitgate host renew NAME, jitgate host trust", err=True)


def _public_half(key: str) -> str:
    """The line in the file of this name, if there is one; a private key is refused, not read out."""
    path = Path(key)
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        content = file.read(PUBLIC_MAX)
    if b"PRIVATE KEY" in content:
        if path.name == key:  # typed in the folder of CA keys itself: the name is meant
            return ""
        raise BadInput(f"{key} is a private key", "name the file of its public half, KEY.pub")
    return content.decode("ascii", "replace").strip()
