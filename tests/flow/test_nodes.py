"""Two services on one PostgreSQL: what one takes away, the other does not give; a node that is killed loses nothing."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.client import Connection, Signer
from tests.postgres import Postgres
from tests.service import ROLES, Service

from jitgate.adapters.db.store import apply_roles


@pytest.fixture
def nodes(install: Callable[..., Service], postgres: Postgres) -> Iterator[tuple[Service, Service]]:
    """Two that run, with a policy and a host. The second one does not own the tables."""
    with postgres.database() as url:
        first = install(database=url)
        apply_roles(url, "jitgate")
        postgres.run(
            "DO $$ BEGIN CREATE ROLE node LOGIN IN ROLE jitgate_api; EXCEPTION WHEN duplicate_object THEN NULL; END $$"
        )
        second = install(database=url.replace("owner@", "node@"), join=first)
        first.start()
        second.start()
        first.apply(ROLES)
        first.add_host("web1")
        yield first, second
        for node in (first, second):
            if node.pid:
                node.kill()


def at(node: Service, known: Connection) -> Connection:
    """The same person with the same sign-in, at another node."""
    who = known.signer
    return node.connect(Signer(node.url, who.key, token=who.token, person_id=who.person_id))


def grant(connection: Connection, **more: Any) -> str:
    answer = connection.post("/v1/grants", {"host": "web1", **more})
    assert answer.status in (200, 201), answer
    return str(answer.json["grant"]["id"])


def test_what_one_node_takes_away_the_other_does_not_give(nodes: tuple[Service, Service]):
    first, second = nodes
    here = first.enter("alice", "engineers")
    there = at(second, here)
    asked = {"grant": grant(here), "host": "web1"}
    assert there.post("/v1/certificates", asked).status == 201  # and now its facts are known there
    assert here.post(f"/v1/grants/{asked['grant']}/end").status == 200
    answer = there.post("/v1/certificates", asked)
    assert (answer.status, answer.code) == (409, "conflict"), answer
    asked["grant"] = grant(there)
    assert here.post("/v1/certificates", asked).status == 201
    second.act("user disable", name="alice")
    answer = here.post("/v1/certificates", asked)
    assert answer.status in (401, 403), answer
    kinds = [event["type"] for event in events(first.enter("olga", admin=True))]
    assert kinds.count("certificate.issued") == 3  # the host's, and one at each node
    assert kinds.count("certificate.refused") in (1, 2)  # the last may already not have been let in


def events(connection: Connection) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = connection.get("/v1/audit?after=-1&limit=1000").json["events"]
    assert [event["index"] for event in found] == list(range(len(found)))
    return found


def test_what_one_node_logs_the_other_shows_to_those_who_wait(nodes: tuple[Service, Service]):
    first, second = nodes
    olga = first.enter("olga", admin=True)
    newest = events(olga)[-1]["index"]
    there = at(second, olga)
    there.begin(there.signer.call("GET", f"/v1/audit?after={newest}&wait=20&type=host.added"))
    first.add_host("web2")
    assert [event["target"] for event in there.answer().json["events"]] == ["host:web2"]
