"""Two services on one PostgreSQL: what one takes away, the other does not give; a node that is killed loses nothing."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
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


def test_a_copied_state_folder_is_not_another_node(nodes: tuple[Service, Service], install: Callable[..., Service]):
    first, second = nodes
    copy = install(database=first.settings.database, join=first)
    (copy.state / "node").write_bytes((second.state / "node").read_bytes())
    with pytest.raises(AssertionError, match="another service runs as this node"):
        copy.start()
    second.kill()
    copy.start()  # as a container that was moved
    assert copy.stop() == 0


def test_commands_where_nothing_serves_work_beside_other_nodes(nodes: tuple[Service, Service]):
    first, second = nodes
    dora = first.enter("dora", "engineers")
    assert second.stop() == 0
    done = second.jitgate("user", "disable", "dora")
    assert done.returncode == 0, done
    dora.close()  # the service did, by now
    assert dora.post("/v1/grants", {"host": "web1"}).status in (401, 403)
    found = json.loads(second.jitgate("db", "nodes", "-o", "json").stdout)["nodes"]
    assert [each["this"] for each in found] == [False, True]


def test_verify_wants_the_lists_of_all_nodes(nodes: tuple[Service, Service], tmp_path: Path):
    first, second = nodes
    here = first.enter("alice", "engineers")
    asked = {"grant": grant(here), "host": "web1"}
    for connection in (here, at(second, here), here):
        assert connection.post("/v1/certificates", asked).status == 201
    alone = first.jitgate("audit", "verify")
    assert alone.returncode == 1
    assert "lists         1 of 2 nodes" in alone.stdout
    assert "is in no signer's list" in alone.stdout
    copy = tmp_path / "second.list"
    shutil.copy(second.state / "signed/signed.list", copy)
    done = first.jitgate("audit", "verify", "--signed", str(copy), "-o", "json")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"], report["certificates"], report["uncompared"]) == (0, True, 4, 0), report
    assert at(second, here).post("/v1/certificates", asked).status == 201  # after the copy was made
    report = json.loads(first.jitgate("audit", "verify", "--signed", str(copy), "-o", "json").stdout)
    assert (report["ok"], report["certificates"], report["uncompared"]) == (True, 4, 1), report
    twice = first.jitgate("audit", "verify", "--signed", str(copy), "--signed", str(copy))
    assert "was signed twice" in twice.stdout
