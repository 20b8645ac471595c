"""Two services on one PostgreSQL: what one takes away, the other does not give; a node that is killed loses nothing."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.client import Connection
from tests.nodes import signer_at, two_nodes
from tests.postgres import Postgres
from tests.service import ROLES, Service


@pytest.fixture
def nodes(install: Callable[..., Service], postgres: Postgres) -> Iterator[tuple[Service, Service]]:
    with two_nodes(install, postgres) as both:
        yield both


def at(node: Service, known: Connection) -> Connection:
    return node.connect(signer_at(node, known.signer))


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


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("UPDATE event SET leaf = replace(convert_from(leaf, 'UTF8'), 'web1', 'web9')::bytea", "edited"),
        ("UPDATE event SET host = 'web9' WHERE host = 'web1'", "column"),
        ('DELETE FROM event WHERE "index" = 3', "removed"),
        ('DELETE FROM event WHERE "index" > 4', "removed"),
    ],
)
def test_what_the_owner_of_the_tables_alters_is_found(
    install: Callable[..., Service], postgres: Postgres, statement: str, found: str
):
    with postgres.database() as url:
        first = install(database=url)
        first.start()
        first.apply(ROLES)
        first.add_host("web1")
        first.enter("alice", "engineers")
        assert first.stop() == 0
        assert first.jitgate("audit", "verify").returncode == 0
        postgres.run(statement, url.split("/")[3].partition("?")[0])
        done = first.jitgate("audit", "verify", "-o", "json")
        assert done.returncode == 1
        assert found in {finding["kind"] for finding in json.loads(done.stdout)["findings"]}, done.stdout


def test_what_cannot_be_joined_is_said_and_nothing_is_made(
    install: Callable[..., Service], postgres: Postgres, tmp_path: Path
):
    with postgres.database() as url, postgres.database() as empty:
        first = install(database=url)
        here = {"config": tmp_path / "jitgate.toml", "state": tmp_path / "state"}

        def join(database: str = url, folder: Path = first.state) -> subprocess.CompletedProcess[str]:
            command = [sys.executable, "-m", "jitgate", "init", "--url", "http://127.0.0.1:8443", "--join", str(folder)]
            places = [f"--{name}={path}" for name, path in here.items()]
            return subprocess.run(
                [*command, *places, f"--database={database}"], capture_output=True, text=True, check=False
            )

        for done, words in (
            (join(database=""), "only nodes on one PostgreSQL database go together"),
            (join(database=f"sqlite:///{tmp_path}/x.db"), "only nodes on one PostgreSQL database go together"),
            (join(folder=tmp_path), "no log.key in"),
            (join(database=empty), "holds no installation"),
            (join(database=url.replace("/test_", "/nothing_")), "cannot get into the database"),
        ):
            assert done.returncode != 0
            assert words in done.stderr, done.stderr
            assert "Traceback" not in done.stderr, done.stderr
            assert not list(tmp_path.iterdir())
        assert join().returncode == 0
        made, old = here["state"], first.state
        for name in ("sealing.key", "signer.toml", "log.key", "keys/user_ca", "keys/host_ca", "keys/log"):
            assert (made / name).read_bytes() == (old / name).read_bytes()
            assert (made / name).stat().st_mode & 0o077 == 0
        assert (made / "node").read_text() != (old / "node").read_text()
        assert list((made / "signed").iterdir()) == []
        assert "there are settings" in join().stderr
        other = install(database=empty)
        shutil.rmtree(made)
        here["config"].unlink()
        done = join(folder=other.state)
        assert "is a node of" in done.stderr, done.stderr
