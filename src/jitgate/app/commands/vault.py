"""jitgate vault: the surface for Vault's clients."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.ca.mounts import MOUNT_TABLE


@click.command(
    epilog=examples("""
    jitgate vault token olga --ttl 1h
    VAULT_TOKEN=$(jitgate vault token olga) bao secrets enable -path=ssh ssh
    """)
)
@click.argument("name")
@config_option
@output_option
@click.option("--ttl", default="8h", show_default=True, help="How long it is good for, at most 8h.")
def token(name: str, config: Path, output: str, ttl: str) -> None:
    """Make an administrator's token of the Vault surface for NAME, who is an admin.

    It may do everything there, and nothing anywhere else. It is printed once.
    """
    settings = settings_of(config)
    done = operate(settings, "vault token", {"name": name, "ttl": ttl})
    show(output, done, [done["token"]])
    click.echo(f"jitgate: until {done['expires_at']}; VAULT_ADDR={settings.url}/vault", err=True)


@click.command(epilog=examples("jitgate vault setup"))
def setup() -> None:
    """Print what switches the surface on: a table for jitgate.toml, and one for signer.toml."""
    click.echo(f"# jitgate.toml\n[vault]\nplain_logins_unregistered_keys = true\n\n# signer.toml{MOUNT_TABLE}", nl=False)
