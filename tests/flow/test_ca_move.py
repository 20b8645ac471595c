"""`jitgate ca move`: a key goes to another keeper while people go on; one that is not let out makes way for another."""

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from tests.client import Connection
from tests.flow.test_ca_keys import events, put_key, wait_for
from tests.keepers import age_identity, softhsm, ssh_agent, table, transit
from tests.service import ROLES, Service

from jitgate.adapters.custody.sealed import is_sealed
from jitgate.app.demo.openbao import OpenBao
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import load_private_key
from jitgate.ssh.pubkey import PublicKey


@pytest.fixture
def service(install) -> Service:
    started: Service = install()
    started.start()
    started.apply(ROLES)
    started.add_host("web1")
    return started


def add_table(service: Service, text: str) -> None:
    rules = service.settings.state / "signer.toml"
    rules.write_text(rules.read_text() + text)


def keeper_of(kind: str, stack: ExitStack, folder: Path, request: pytest.FixtureRequest | None) -> str:
    """A keeper of that kind, as its table in `signer.toml`."""
    if kind == "agent":
        return table("agent", stack.enter_context(ssh_agent()))
    if kind == "pkcs11":
        return table("pkcs11", softhsm(folder / "hsm"))
    assert request
    openbao: OpenBao = request.getfixturevalue("openbao")
    return table("transit", transit(openbao, folder)[1])


def issue(who: Connection, grant: str) -> PublicKey:
    """The key that signed."""
    answer = who.post("/v1/certificates", {"grant": grant, "host": "web1"})
    assert answer.status == 201, answer
    return parse_certificate_line(answer.json["certificate"]).body.ca


@contextmanager
def people_going_on(service: Service, name: str = "bob") -> Iterator[set[PublicKey]]:
    """Somebody asks for certificates all the while; by which keys they are. A refusal fails the test."""
    bob = service.enter(name, "engineers")
    grant = bob.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    over, seen, wrong = threading.Event(), set[PublicKey](), list[BaseException]()

    def work() -> None:
        try:
            while not over.wait(0.1):
                seen.add(issue(bob, grant))
        except BaseException as error:  # noqa: BLE001  # raised again below
            wrong.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
    if wrong:
        raise wrong[0]


def user_key(service: Service) -> PublicKey:
    return load_private_key((service.settings.keys_folder / "user_ca").read_bytes()).public


@pytest.mark.parametrize("kind", ["agent", "pkcs11", "transit"])
def test_a_file_moves_and_nobody_notices(service: Service, tmp_path, request, kind: str):
    with ExitStack() as stack:
        key = user_key(service)
        add_table(service, keeper_of(kind, stack, tmp_path, request))
        with people_going_on(service) as seen:
            done = service.jitgate("ca", "move", "user_ca", "--to", kind, "-o", "json")
        assert done.returncode == 0, done.stderr
        place = f"agent:{key.fingerprint}" if kind == "agent" else f"{kind}:user_ca"
        assert json.loads(done.stdout) == {
            "name": place, "fingerprint": key.fingerprint, "realm": "default", "kind": "user", "copied": True
        }  # fmt: skip
        assert seen == {key}
        row = wait_for(service, lambda row: row["fingerprint"] == key.fingerprint)
        assert (row["file"], row["phase"], row["held"]) == (place, "active", "yes")
        folder = service.settings.keys_folder
        assert not (folder / "user_ca").exists()
        assert f"shred -u {folder / 'user_ca~'}" in done.stderr
        (folder / "user_ca~").unlink()
        assert service.stop() == 0
        service.start()  # by the keeper alone
        with people_going_on(service, "carol") as seen:
            wait_for(service, lambda row: row["file"] == place)
        assert seen <= {key}
        olga = service.enter("olga", admin=True)
        assert olga.get("/v1/audit?type=ca.key_lost&limit=9").json["events"] == []
        (moved,) = olga.get("/v1/audit?type=ca.key_moved&limit=9").json["events"]
        assert moved["detail"] == {"ca": key.fingerprint, "kind": "user", "file": place, "before": "user_ca"}
        assert service.stop() == 0


def test_a_file_is_sealed_where_it_is_and_opened_again(service: Service, tmp_path):
    key, file = user_key(service), service.settings.keys_folder / "user_ca"
    add_table(service, table("sealed", age_identity(tmp_path)))
    with people_going_on(service) as seen:
        for keeper, sealed in (("sealed", True), ("file", False)):
            done = service.jitgate("ca", "move", "user_ca", "--to", keeper)
            assert done.returncode == 0, done.stderr
            assert is_sealed(file.read_bytes()) == sealed
            assert file.stat().st_mode & 0o777 == 0o600
    assert seen == {key}
    befores = [event["detail"]["before"] for event in events(service, "ca.key_moved")]
    assert sorted(befores) == ["user_ca, in clear", "user_ca, sealed by age"]
    service.jitgate("ca", "move", "user_ca", "--to", "sealed")
    assert service.stop() == 0
    service.start()
    assert wait_for(service, lambda row: row["fingerprint"] == key.fingerprint)["file"] == "user_ca"


def test_a_key_that_came_later_moves_too(service: Service):
    """Its file is meant by a beginning and a `*`."""
    key = put_key(service).public.fingerprint
    with ExitStack() as stack:
        add_table(service, table("agent", stack.enter_context(ssh_agent())))
        done = service.jitgate("ca", "move", "user_ca-2027", "--to", "agent")
        assert done.returncode == 0, done.stderr
        assert wait_for(service, lambda row: row["fingerprint"] == key)["file"] == f"agent:{key}"
        assert not (service.settings.keys_folder / "user_ca-2027").exists()
        service.stop()


def test_what_a_token_does_not_let_out_is_replaced_by_a_new_key(service: Service, tmp_path, request):
    with ExitStack() as stack:
        first = user_key(service)
        add_table(service, keeper_of("pkcs11", stack, tmp_path, request))
        add_table(service, keeper_of("transit", stack, tmp_path, request))
        assert service.jitgate("ca", "move", "user_ca", "--to", "pkcs11").returncode == 0
        done = service.jitgate("ca", "move", "pkcs11:user_ca", "--to", "transit", "--algorithm", "ecdsa-sha2-nistp256")
        assert done.returncode == 0, done.stderr
        assert "pkcs11:user_ca is not let out" in done.stderr
        new = done.stdout.strip()
        assert new != first.fingerprint
        row = wait_for(service, lambda row: row["fingerprint"] == new)
        assert (row["file"], row["phase"], row["kind"]) == ("transit:user_ca", "listed", "user")
        (plan,) = json.loads(service.jitgate("ca", "rotate", "status", "-o", "json").stdout)
        assert (plan["old"]["fingerprint"], plan["new"]["fingerprint"]) == (first.fingerprint, new)
        with people_going_on(service) as seen:  # the old one goes on until then
            pass
        assert seen <= {first}
        service.stop()


def test_a_keeper_that_is_lost_is_in_the_log_and_hosts_go_on(service: Service):
    with ExitStack() as stack:
        add_table(service, keeper_of("agent", stack, Path(), None))
        assert service.jitgate("ca", "move", "user_ca", "--to", "agent").returncode == 0
        alice = service.enter("alice", "engineers")
        grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
        key = issue(alice, grant).fingerprint
        stack.close()
        refused = alice.post("/v1/certificates", {"grant": grant, "host": "web1"})
        assert refused.status == 503
        assert "no agent at" in refused.json["detail"]
    assert [event["detail"]["ca"] for event in events(service, "ca.key_lost")] == [key]
    shown = service.jitgate("ca", "ls").stderr
    assert f"agent:{key} is not used: no agent at" in shown
    service.add_host("web2")  # by the host CA's key, which is where it was


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("user_ca", "--to", "pkcs11"), "no table [pkcs11]"),
        (("user_ca", "--to", "sealed"), "no table [sealed]"),
        (("user_ca", "--to", "file"), "is in a file already"),
        (("nothing", "--to", "file"), "no table of signer.toml means"),
        (("../user_ca", "--to", "file"), "no table of signer.toml means"),
        (("log", "--to", "file"), "is no CA key"),
        (("agent:SHA256:" + "A" * 43, "--to", "file"), "no table of signer.toml means"),
    ],
)
def test_what_cannot_be_moved_is_said_and_nothing_changes(service: Service, arguments, words):
    before = (service.settings.state / "signer.toml").read_text()
    done = service.jitgate("ca", "move", *arguments)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert (service.settings.state / "signer.toml").read_text() == before


def test_a_name_that_is_taken_there_stops_it(service: Service, tmp_path, request):
    with ExitStack() as stack:
        add_table(service, keeper_of("pkcs11", stack, tmp_path, request))
        assert service.jitgate("ca", "move", "user_ca", "--to", "pkcs11", "--name", "ca").returncode == 0
        done = service.jitgate("ca", "move", "host_ca", "--to", "pkcs11", "--name", "ca")
        assert done.returncode == 7
        assert "label ca already" in done.stderr
        assert (service.settings.keys_folder / "host_ca").exists()
        service.stop()
