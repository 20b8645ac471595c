"""Bring a database's schema to the newest step, inside one transaction."""

from pathlib import Path

from sqlalchemy import Connection, Engine, inspect, text

STEPS = Path(__file__).parent / "versions"
_REVISION = text("SELECT version_num FROM alembic_version")


def upgrade(engine: Engine) -> None:
    newest = max(step.name[:4] for step in STEPS.glob("[0-9]*.py"))
    with engine.begin() as connection:
        if _revision(connection) != newest:
            _upgrade(connection)


def _revision(connection: Connection) -> str:
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return str(connection.scalar(_REVISION) or "")


def _upgrade(connection: Connection) -> None:
    from alembic import command  # noqa: PLC0415  # 8 MiB that a service with its schema in place does without
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
