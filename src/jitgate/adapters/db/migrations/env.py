"""What Alembic runs: the steps, on the connection that `run.upgrade` hands in."""

from alembic import context

from jitgate.adapters.db.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, render_as_batch=True)
context.run_migrations()
