"""Two realms in one running service: each with keys, hosts and roles of its own, and nothing that crosses."""

import stat
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from tests.client import Connection
from tests.service import ROLES, Service

from jitgate.agent.trust import parse
from jitgate.app.operate import operate
from jitgate.app.settings import Settings
from jitgate.core.errors import Error
from jitgate.ssh.cert import Certificate, parse_certificate_line
from jitgate.ssh.private import generate_ed25519

EU = ROLES.replace(b"role: web\n", b"role: web-eu\nrealm: eu\n")


@pytest.fixture
def service(install) -> Service:
    started: Service = install()
    started.start()
    done = started.jitgate("realm", "add", "eu")
    assert done.returncode == 0, done.stderr
    started.apply(ROLES, EU)
    started.add_host("web1")
    return started


@pytest.fixture
def alice(service: Service) -> Connection:
    return service.enter("alice", "engineers")


def add_host(service: Service, name: str, realm: str = "eu") -> dict[str, Any]:
    line = generate_ed25519().public.line()
    told = {"address": "127.0.0.1", "port": 22, "logins": ["ubuntu"], "labels": {"tier": "web"}, "host_key": line}
    done: dict[str, Any] = service.act("host add", name=name, realm=realm, **told)
    return done


def keys_of(service: Service, realm: str) -> dict[str, str]:
    rows = service.act("ca ls")["keys"]
    return {row["kind"]: row["fingerprint"] for row in rows if (row["realm"], row["phase"]) == (realm, "active")}


def certificate(who: Connection, host: str, **more: str) -> Certificate:
    grant = who.post("/v1/grants", {"host": host, **more})
    assert grant.status in (200, 201), grant
    answer = who.post("/v1/certificates", {"grant": grant.json["grant"]["id"], "host": host})
    assert answer.status == 201, answer
    return parse_certificate_line(answer.json["certificate"])


def test_a_realm_has_keys_of_its_own_in_a_running_service(service, alice):
    assert [realm["name"] for realm in service.act("realm ls")["realms"]] == ["default", "eu"]
    ours, theirs = keys_of(service, "default"), keys_of(service, "eu")
    assert set(theirs) == {"user", "host", "interception"} == set(ours)
    assert not {*ours.values()} & {*theirs.values()}
    for file in ("eu.user_ca", "eu.host_ca", "eu.interception_ca"):
        assert stat.S_IMODE((service.settings.keys_folder / file).stat().st_mode) == 0o600
    published = {realm["name"]: realm for realm in alice.get("/.well-known/jitgate").json["realms"]}
    assert published["eu"]["host_pattern"] == "*.eu.jitgate"
    assert not {*published["eu"]["user_ca"]} & {*published["default"]["user_ca"]}

    trust = parse(add_host(service, "app1")["trust"].encode())
    assert [key.fingerprint for key in trust.user_ca] == [theirs["user"]]
    assert trust.host_certificate.body.ca.fingerprint == theirs["host"]
    assert trust.alias == "app1.eu.jitgate"
    assert certificate(alice, "app1").body.ca.fingerprint == theirs["user"]
    assert certificate(alice, "web1").body.ca.fingerprint == ours["user"]

    again = service.jitgate("realm", "add", "eu")
    assert again.returncode == 7
    shown = service.jitgate("realm", "show", "eu")
    assert "*.eu.jitgate" in shown.stdout
    service.stop()
    service.start()
    alice.close()
    assert certificate(alice, "app1").body.ca.fingerprint == theirs["user"]


def test_a_realm_without_keys_is_not_added(service):
    with pytest.raises(Error, match="holds no user and no host and no interception key"):
        service.act("realm add", name="us")
    with pytest.raises(Error, match="Vault mount"):
        service.act("realm add", name="vault-ssh")
    with pytest.raises(Error, match="no realm 'us'"):
        add_host(service, "app1", "us")
    printed = service.jitgate("realm", "add", "us", "--print")
    assert 'keys = ["us.user_ca", "us.user_ca-*"]' in printed.stdout
    assert not list(service.settings.keys_folder.glob("us.*"))


def test_nothing_of_one_realm_opens_the_other(service, alice):
    """A role, a grant, a ticket's host and the signer: each keeps to its realm, though the names are the same."""
    add_host(service, "web1")  # in eu; there is one in default
    service.apply(ROLES)  # of default alone
    refused = alice.post("/v1/grants", {"host": "web1", "realm": "eu"})
    assert (refused.status, refused.json["code"]) == (403, "no_role")
    assert "no role covers web1" in refused.json["detail"]
    unsaid = alice.post("/v1/grants", {"host": "web1"})
    assert (unsaid.status, unsaid.json["code"]) == (409, "realm_needed")
    assert "default, eu" in unsaid.json["detail"]
    assert [(h["realm"], h["name"]) for h in alice.get("/v1/hosts").json["hosts"]] == [("default", "web1")]

    ours, theirs = keys_of(service, "default"), keys_of(service, "eu")
    in_default = alice.post("/v1/grants", {"host": "web1", "realm": "default"}).json["grant"]
    assert in_default["realm"] == "default"
    service.apply(ROLES, EU)
    by_name = alice.post("/v1/grants", {"host": "web1", "realm": "eu", "role": "web"})
    assert (by_name.status, by_name.json["code"]) == (403, "no_role")
    in_eu = alice.post("/v1/grants", {"host": "web1", "realm": "eu"}).json["grant"]
    assert in_eu["realm"] == "eu"
    assert in_eu["id"] != in_default["id"]
    for grant, keys in ((in_default, ours), (in_eu, theirs)):
        answer = alice.post("/v1/certificates", {"grant": grant["id"], "host": "web1"})
        made = parse_certificate_line(answer.json["certificate"])
        assert made.body.ca.fingerprint == keys["user"]
        assert answer.json["host"]["alias"] == f"web1.{grant['realm']}.jitgate"
    assert {(h["realm"], h["name"]) for h in alice.get("/v1/hosts").json["hosts"]} == {
        ("default", "web1"),
        ("eu", "web1"),
    }
    assert alice.get("/v1/hosts?name=web1").json == alice.get("/v1/hosts").json
    assert alice.get("/v1/hosts?name=web").json == {"hosts": []}
    assert {grant["realm"] for grant in alice.get("/v1/grants?host=web1").json["grants"]} == {"default", "eu"}
    assert alice.get("/v1/grants?host=web").json == {"grants": []}
    explained = alice.get("/v1/explain?host=web1&realm=eu&login=ubuntu").json
    assert explained["role"] == "web-eu"


def revoked(who: Connection, realm: str, made: Certificate, folder: Path) -> bool:
    """What ssh-keygen says, with the list that hosts of that realm get."""
    krl, file = folder / "krl", folder / "cert.pub"
    krl.write_bytes(who.get(f"/.well-known/jitgate/krl?realm={realm}").body)
    file.write_text(made.line() + "\n")
    asked = ["ssh-keygen", "-Q", "-f", str(krl), str(file)]
    return subprocess.run(asked, capture_output=True, check=False).returncode == 1


def test_who_leaves_one_realm_loses_that_and_nothing_else(service, alice, tmp_path):
    add_host(service, "app1")
    grants = {host: alice.post("/v1/grants", {"host": host}).json["grant"]["id"] for host in ("web1", "app1")}
    made = {host: certificate(alice, host) for host in grants}
    done = service.jitgate("user", "leave", "alice", "--realm", "eu", "--reason", "moved to us")
    assert done.returncode == 0, done.stderr
    alice.close()  # the command took seconds

    assert revoked(alice, "eu", made["app1"], tmp_path)
    assert not revoked(alice, "default", made["web1"], tmp_path)
    assert not revoked(alice, "eu", made["web1"], tmp_path)
    assert alice.post("/v1/certificates", {"grant": grants["web1"], "host": "web1"}).status == 201
    assert alice.post("/v1/certificates", {"grant": grants["app1"], "host": "app1"}).status == 409
    refused = alice.post("/v1/grants", {"host": "app1"})
    assert (refused.status, refused.json["code"]) == (403, "left_realm")
    assert [host["name"] for host in alice.get("/v1/hosts").json["hosts"]] == ["web1"]
    assert alice.get("/v1/explain?host=app1").json["code"] == "left_realm"
    states = {row["host"]: row["state"] for row in alice.get("/v1/grants?all=1").json["grants"]}
    assert states == {"web1": "active", "app1": "ended"}
    assert service.act("realm show", name="eu")["realm"]["left"] == ["alice"]
    with pytest.raises(Error, match="no realm 'us'"):
        service.act("user leave", name="alice", realm="us", reason="")
    with pytest.raises(Error, match="has left eu already"):
        service.act("user leave", name="alice", realm="eu", reason="")

    assert service.jitgate("user", "return", "alice", "--realm", "eu").returncode == 0
    alice.close()
    assert alice.post("/v1/certificates", {"grant": grants["app1"], "host": "app1"}).status == 409
    certificate(alice, "app1")
    with pytest.raises(Error, match="has not left eu"):
        service.act("user return", name="alice", realm="eu", reason="")
    admin = service.enter("olga", admin=True)
    for kind in ("realm.left", "realm.returned"):
        (event,) = admin.get(f"/v1/audit?type={kind}").json["events"]
        assert event["realm"] == "eu"


def wait_for_realm(settings: Settings, name: str) -> None:
    """Its files are there: the realm is added as soon as the signer has seen them."""
    until = time.monotonic() + 20
    while True:
        try:
            operate(settings, "realm add", {"name": name})
        except Error as error:
            if error.code != "realm_without_keys" or time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return
