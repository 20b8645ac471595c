"""Two nodes on one PostgreSQL, for tests."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.client import Signer
from tests.postgres import Postgres
from tests.service import ROLES, Service

from jitgate.adapters.db.store import apply_roles


@contextmanager
def two_nodes(
    install: Callable[..., Service], postgres: Postgres, *, port: int = 22, **settings: Any
) -> Iterator[tuple[Service, Service]]:
    """Both run, with a policy and the host `web1` on `port`. The second one does not own the tables."""
    with postgres.database() as url:
        first = install(database=url, **settings)
        apply_roles(url, "jitgate")
        postgres.run(
            "DO $$ BEGIN CREATE ROLE node LOGIN IN ROLE jitgate_api; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        second = install(database=url.replace("owner@", "node@"), join=first, **settings)
        first.start()
        second.start()
        first.apply(ROLES)
        first.add_host("web1", port=port)
        yield first, second
        for node in (first, second):
            if node.pid:
                node.kill()


def signer_at(node: Service, known: Signer) -> Signer:
    """The same person with the same sign-in, at another node."""
    return Signer(node.url, known.key, token=known.token, person_id=known.person_id)
