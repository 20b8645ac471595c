"""The real service with people's keys in a real OpenBao: what somebody does there by hand, and when it is away."""

import os
import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests import tunnel
from tests.client import Answer, Connection, Json
from tests.openbao import running_bao
from tests.service import ROLES, Service

from jitgate.adapters.vault.keys import AGE_S
from jitgate.app.demo.openbao import MOUNT, PREFIX, OpenBao, Prepared, prepare_registry
from jitgate.ssh.private import generate_ed25519

PATIENCE_S = 20.0
TOKEN = re.compile(r"\b[sbr]\.[A-Za-z0-9]{24}")  # as OpenBao makes them


def begin(service: Service, prepared: Prepared, port: int = 22, **changes: str) -> Service:
    with service.config.open("a") as file:
        file.write(Prepared({**prepared.settings, **changes}, "").table())
    service.start(JITGATE_LOG_LEVEL="debug")
    service.apply(ROLES)
    service.add_host("web1", port=port)
    return service


@pytest.fixture(scope="module")
def prepared(openbao: OpenBao, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return prepare_registry(openbao, tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def service(install: Callable[..., Service], prepared: Prepared, tmp_path: Path) -> Iterator[Service]:
    """Its entries are below a prefix of its own."""
    started = begin(install(), prepared, prefix=f"{PREFIX}/{tmp_path.name}")
    yield started
    assert Path(prepared.settings["secret_id_file"]).read_text() not in started.words()
    assert TOKEN.search(started.words()) is None
    assert "v1/secret/data" not in started.words()


def path_of(service: Service, who: Connection, tmp_path: Path) -> str:
    """Where the entry of this person's key is, below `MOUNT/data/`."""
    name = next(u["name"] for u in service.act("user ls")["users"] if u["id"] == who.signer.person_id)
    mark = who.signer.key.public.fingerprint.removeprefix("SHA256:").replace("+", "-").replace("/", "_")
    return f"{PREFIX}/{tmp_path.name}/{name}/{mark}"


def ask(who: Connection) -> Answer:
    """What needs the key: a certificate under the running grant, or under a new one."""
    opened = who.post("/v1/grants", {"host": "web1"})
    if opened.status >= 400:
        return opened
    return who.post("/v1/certificates", {"grant": opened.json["grant"]["id"], "host": "web1"})


def until_refused(who: Connection) -> Answer:
    """Asked again and again: the first refusal, which comes within the age that an entry may have."""
    until = time.monotonic() + AGE_S + PATIENCE_S
    while (answer := ask(who)).status == 201:
        assert time.monotonic() < until
        time.sleep(0.2)
    return answer


def entries(who: Connection, kind: str) -> list[Json]:
    found = who.get(f"/v1/audit?type={kind}&limit=100")
    assert found.status == 200, found
    events: list[Json] = found.json["events"]
    return events


def test_a_key_that_is_taken_out_by_hand_opens_nothing_seconds_later(service, openbao, tmp_path):
    alice, bob = service.enter("alice", "engineers"), service.enter("bob", "engineers")
    assert ask(alice).status == ask(bob).status == 201
    entry = openbao.ask("GET", f"{MOUNT}/data/{path_of(service, alice, tmp_path)}")["data"]["data"]
    assert entry["person"] == alice.signer.person_id
    assert entry["key"].startswith(alice.signer.key.public.line())
    openbao.ask("DELETE", f"{MOUNT}/data/{path_of(service, alice, tmp_path)}")
    openbao.ask("DELETE", f"{MOUNT}/metadata/{path_of(service, bob, tmp_path)}")
    for each in (alice, bob):
        each.close()
        refused = until_refused(each)
        assert (refused.status, refused.code) == (403, "key_not_registered")
    admin = service.enter("olga", admin=True)
    removed = entries(admin, "key.removed")
    assert [event["actor"]["kind"] for event in removed] == ["service"] * 2
    assert {event["detail"]["why"] for event in removed} == {"it is not in the key registry any more"}
    assert "key_not_registered" in {e["detail"]["code"] for e in entries(admin, "request.refused")}


def test_an_entry_that_was_changed_by_hand_opens_nothing_until_it_is_put_right(service, openbao, tmp_path):
    alice = service.enter("alice", "engineers")
    path = f"{MOUNT}/data/{path_of(service, alice, tmp_path)}"
    entry = openbao.ask("GET", path)["data"]["data"]
    bob = service.enter("bob", "engineers")
    openbao.ask("POST", path, {"data": entry | {"person": bob.signer.person_id}})
    refused = until_refused(alice)
    assert (refused.status, refused.code) == (403, "registry_differs")
    again = alice.post("/v1/keys", {"key": generate_ed25519().public.line()})
    assert again.code == "registry_differs"
    openbao.ask("POST", path, {"data": entry | {"note": "put right"}})
    until = time.monotonic() + AGE_S + PATIENCE_S
    while ask(alice).status != 201:
        assert time.monotonic() < until
        time.sleep(0.2)
    bob.close()  # the service has hung up on a connection that was silent so long
    assert ask(bob).status == 201


def test_a_session_ends_and_its_ticket_with_it_when_the_key_is_taken_out(install, prepared, openbao, tmp_path):
    with tunnel.host(tunnel.echo) as port:
        service = begin(install(tls=True), prepared, port, prefix=f"{PREFIX}/{tmp_path.name}")
        alice = tunnel.enter(service, "alice", "engineers")
        ticket = tunnel.ticket_of(alice)
        with tunnel.opened(service, ticket).socket as connection:
            assert tunnel.exactly(connection, 6) == b"hello\n"
            openbao.ask("DELETE", f"{MOUNT}/data/{path_of(service, alice, tmp_path)}")
            connection.settimeout(PATIENCE_S)
            assert tunnel.rest(connection) == b""
        tunnel.refused(service, ticket)


def test_an_openbao_that_hangs_opens_nothing_and_is_said(service, openbao):
    alice, password = service.enter("alice", "engineers"), service.add_person("bob", "engineers")
    assert ask(alice).status == 201
    os.kill(openbao.pid, signal.SIGSTOP)
    try:
        refused = until_refused(alice)
        assert (refused.status, refused.code) == (503, "registry_unreachable")
        assert refused.json["detail"] == "the key registry does not answer"
        newcomer = service.connect()
        answer = newcomer.sign_in("bob", password)
        assert (answer.status, answer.code) == (503, "registry_unreachable")
        ready = newcomer.get("/readyz")
        assert ready.status == 503
        assert ready.json["keys"] == "the key registry does not answer"
    finally:
        os.kill(openbao.pid, signal.SIGCONT)
    until = time.monotonic() + PATIENCE_S
    while newcomer.sign_in("bob", password).status != 201:  # the code was not used up
        assert time.monotonic() < until
        time.sleep(0.2)
    admin = service.enter("olga", admin=True)
    codes = {e["detail"]["code"] for e in entries(admin, "request.refused") + entries(admin, "sign_in.refused")}
    assert codes == {"registry_unreachable"}
    assert ask(alice).status == 201
    assert "the key registry does not answer" in service.words()


def test_away_at_the_start_back_later_and_restarted_meanwhile(install, tmp_path):
    """The service starts without it, refuses, and goes on by itself when it is there; its token is then another."""
    with running_bao(tmp_path / "bao") as bao:
        prepared = prepare_registry(bao, tmp_path / "prepared", token_s=2, token_max_s=4)
        port = int(bao.url.rpartition(":")[2])
    service = begin(install(), prepared)
    secret = service.add_person("alice", "engineers")
    alice = service.connect()
    assert alice.sign_in("alice", secret).code == "registry_unreachable"
    with running_bao(tmp_path / "bao", port=port) as bao:
        until = time.monotonic() + PATIENCE_S
        while (answer := alice.sign_in("alice", secret, steps=1)).code == "registry_unreachable":
            assert time.monotonic() < until
            time.sleep(0.5)
        assert answer.status == 201, answer
        began = time.monotonic()
        while time.monotonic() < began + 6:  # longer than a token may live, renewed as it may be
            assert ask(alice).status == 201
            time.sleep(0.5)
    assert until_refused(alice).code == "registry_unreachable"
