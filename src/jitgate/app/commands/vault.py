"""jitgate vault: the surface for Vault's clients."""

from pathlib import Path

import click

from jitgate.adapters.secret_file import read_secret
from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.installation import rules_file
from jitgate.app.operate import operate
from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.cli.out import table
from jitgate.core.errors import UsageError


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
@config_option
def setup(config: Path) -> None:
    """Print what switches the surface on: a table for the service's settings, and one for the signer's own file."""
    service = f"# {config}, read at start\n[vault]\nplain_logins_unregistered_keys = true\n"
    click.echo(f"{service}\n# {rules_file(settings_of(config))}{MOUNT_TABLE}", nl=False)


@click.command(
    epilog=examples("""
    jitgate import vault --address https://vault.example.com:8200 --token-file token --mount ssh --dry-run
    jitgate import vault --address https://vault.example.com:8200 --token-file token --mount ssh --as olga
    """)
)
@config_option
@output_option
@click.option("--address", required=True, help="Where that Vault or OpenBao is.")
@click.option("--token-file", required=True, help="A file, 0600, with a token that may read roles and policies there.")
@click.option("--mount", default="ssh", show_default=True, help="The path of its SSH engine.")
@click.option("--to", default="", help="The path of the mount here.  [default: the same]")
@click.option("--as", "name", default="", metavar="NAME", help="The admin in whose name it is written.")
@click.option("--ca-file", default="", help="Its TLS authority, if it is not publicly trusted.")
@click.option("--namespace", default="", help="Its namespace, if it has any.")
@click.option("--dry-run", is_flag=True, help="Only say what would be taken, and what not.")
def import_vault(
    config: Path,
    output: str,
    address: str,
    token_file: str,
    mount: str,
    to: str,
    name: str,
    ca_file: str,
    namespace: str,
    *,
    dry_run: bool,
) -> None:
    """Bring the roles of an SSH mount, and path policies, over from a running Vault or OpenBao.

    What this surface would not keep is named with the reason and left out. Nothing there is changed; no key, user or
    token is read.
    """
    from jitgate.adapters.vault.roles import read_roles  # noqa: PLC0415  # an HTTP client

    if not name and not dry_run:
        raise UsageError("in whose name?", "--as NAME, an admin; or --dry-run")
    found = read_roles(address, read_secret(token_file), mount.strip("/"), ca_file=ca_file, namespace=namespace)
    told = {
        "as": name,
        "mount": to or mount,
        "roles": {role: dict(fields) for role, fields in found.roles.items()},
        "policies": dict(found.policies),
        "dry_run": dry_run,
    }
    done = operate(settings_of(config), "vault import", told)
    rows = [(e["kind"], e["name"], "yes" if e["taken"] else "no", "; ".join(e["words"])) for e in done["brought"]]
    show(output, done, table(("KIND", "NAME", "TAKEN", "WHY"), rows))
    left = sum(not each["taken"] for each in done["brought"])
    click.echo(f"jitgate: {len(rows) - left} taken, {left} not", err=True)
