"""jitgate db: the database itself."""

from pathlib import Path

import click

from jitgate.adapters.db import roles as db_roles
from jitgate.adapters.db.store import apply_roles, open_read_only, upgrade_schema
from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.installation import node_id
from jitgate.core.clock import rfc3339
from jitgate.core.errors import BadInput

_database_option = click.option("--database", metavar="URL", help="As another user than the settings'.")


@click.command(
    epilog=examples("""
    jitgate db roles | psql jitgate
    jitgate db roles --apply --database postgresql://owner@db.example.org/jitgate
    """)
)
@config_option
@_database_option
@click.option("--apply", "apply", is_flag=True, help="Run them, instead of printing them.")
@click.option("--prefix", default="jitgate", show_default=True, help="Before the roles' names.")
def roles(config: Path, database: str | None, apply: bool, prefix: str) -> None:  # noqa: FBT001  # click's
    """Roles for programs on PostgreSQL: what the API, a gateway and an auditor may do, as GRANT statements.

    They are for users that do not own the tables: GRANT jitgate_api TO a user, and give that user to jitgate serve.
    Run by the owner, and again after each upgrade.
    """
    if not prefix.isascii() or not prefix.isidentifier():
        raise BadInput("the prefix is not a name", "letters, digits and underscores")
    if apply:
        apply_roles(database or settings_of(config).database_url, prefix)
        click.echo(f"jitgate: made {' '.join(f'{prefix}_{role}' for role in db_roles.ROLES)}", err=True)
        return
    for statement in db_roles.statements(prefix):
        click.echo(f"{statement};")


@click.command(
    epilog=examples("""
    jitgate db upgrade --database postgresql://owner@db.example.org/jitgate
    """)
)
@config_option
@_database_option
def upgrade(config: Path, database: str | None) -> None:
    """Bring the tables up to date with this version. jitgate serve does it too, where its user owns them."""
    upgrade_schema(database or settings_of(config).database_url)
    click.echo("jitgate: the tables are those of this version", err=True)


@click.command(
    epilog=examples("""
    jitgate db nodes
    """)
)
@config_option
@output_option
def nodes(config: Path, output: str) -> None:
    """The services that work on this database, or did; when each was seen last."""
    settings = settings_of(config)
    ours = node_id(settings)
    with open_read_only(settings.database_url) as tx:
        found = tx.nodes.all()
    rows = [{"id": each, "name": name, "seen_at": rfc3339(at), "this": each == ours} for each, name, at in found]
    lines = [f"{row['id']}  {row['seen_at']}  {row['name']}{'  (this one)' if row['this'] else ''}" for row in rows]
    show(output, {"nodes": rows}, lines)
