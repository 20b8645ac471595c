"""A CA key is replaced while the service runs: found, listed, told to the hosts, used, and the old one retired."""

import time
from pathlib import Path
from typing import Any

import pytest
from tests.client import Connection
from tests.service import ROLES, Service

from jitgate.adapters.signers.files import write_key
from jitgate.agent.trust import parse
from jitgate.core.errors import Error
from jitgate.ssh.cert import Certificate, parse_certificate_line
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519

PATIENCE_S = 20.0
NEXT = "user_ca-2027"


@pytest.fixture
def service(install) -> Service:
    started: Service = install()
    started.start()
    started.apply(ROLES)
    started.add_host("web1")
    return started


@pytest.fixture
def alice(service: Service) -> Connection:
    return service.enter("alice", "engineers")


def put_key(service: Service, name: str = NEXT) -> SoftwareKey:
    key = generate_ed25519()
    write_key(service.settings.keys_folder, name, key)
    wait_for(service, lambda row: row["fingerprint"] == key.public.fingerprint)
    return key


def wait_for(service: Service, true: Any) -> dict[str, Any]:
    until = time.monotonic() + PATIENCE_S
    while not (rows := [row for row in service.act("ca ls")["keys"] if true(row)]):
        assert time.monotonic() < until, service.act("ca ls")
        time.sleep(0.1)
    found: dict[str, Any] = rows[0]
    return found


def rows(service: Service, kind: str = "user") -> dict[str, str]:
    return {row["fingerprint"]: row["phase"] for row in service.act("ca ls")["keys"] if row["kind"] == kind}


def certificate(who: Connection) -> Certificate:
    grant = who.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    answer = who.post("/v1/certificates", {"grant": grant, "host": "web1"})
    assert answer.status == 201, answer
    return parse_certificate_line(answer.json["certificate"])


def signer_of(who: Connection) -> str:
    return certificate(who).body.ca.fingerprint


def shown_to_all(who: Connection, kind: str = "user") -> set[str]:
    (realm,) = who.get("/.well-known/jitgate").json["realms"]
    return set(realm[f"{kind}_ca"])


def add(service: Service, key: str, **more: Any) -> dict[str, Any]:
    done: dict[str, Any] = service.act("ca add", **{"key": key, "line": "", "kind": None, "realm": "", **more})
    return done


def use(service: Service, key: str, *, anyway: bool = False) -> dict[str, Any]:
    done: dict[str, Any] = service.act("ca use", key=key, anyway=anyway)
    return done


def events(service: Service, kind: str) -> list[dict[str, Any]]:
    """Of the log, which only an admin reads in whole; waited for."""
    admin = service.enter(f"olga{time.monotonic_ns()}", admin=True)
    until = time.monotonic() + PATIENCE_S
    while not (found := admin.get(f"/v1/audit?type={kind}&limit=100").json["events"]):
        assert time.monotonic() < until, kind
        time.sleep(0.1)
    listed: list[dict[str, Any]] = found
    return listed


def test_a_new_key_is_found_listed_told_used_and_the_old_one_retired(service, alice):
    first = certificate(alice)
    old = first.body.ca
    new = put_key(service)
    (found,) = events(service, "ca.key_found")
    assert found["detail"]["ca"] == new.public.fingerprint
    assert (found["detail"]["file"], found["detail"]["signs"]) == (NEXT, old.fingerprint)
    with pytest.raises(Error, match="not listed"):
        use(service, NEXT)
    assert signer_of(alice) == old.fingerprint

    assert add(service, NEXT)["fingerprint"] == new.public.fingerprint
    assert shown_to_all(alice) == {old.line(), new.public.line()}
    with pytest.raises(Error, match="listed already"):
        add(service, new.public.fingerprint)
    assert signer_of(alice) == old.fingerprint

    with pytest.raises(Error, match="not been told of this key: web1"):
        use(service, NEXT)
    trust = parse(service.act("host renew", name="web1")["trust"].encode())
    assert set(trust.user_ca) == {old, new.public}
    assert use(service, NEXT)["previous"] == old.fingerprint
    second = certificate(alice)
    assert second.body.ca == new.public
    assert second.body.serial != first.body.serial + 1  # each key counts from a start of its own
    assert certificate(alice).body.serial == second.body.serial + 1
    assert rows(service) == {old.fingerprint: "listed", new.public.fingerprint: "active"}
    assert shown_to_all(alice) == {old.line(), new.public.line()}

    with pytest.raises(Error, match="this key signs"):
        service.act("ca retire", key=NEXT)
    service.act("ca retire", key=old.fingerprint)
    assert shown_to_all(alice) == {new.public.line()}
    assert parse(service.act("host renew", name="web1")["trust"].encode()).user_ca == (new.public,)
    with pytest.raises(Error, match="retired"):
        use(service, old.fingerprint)
    said = {kind: events(service, kind)[0]["detail"]["ca"] for kind in ("ca.key_used", "ca.key_retired")}
    assert said == {"ca.key_used": new.public.fingerprint, "ca.key_retired": old.fingerprint}

    service.stop()
    service.start()
    alice.close()
    assert signer_of(alice) == new.public.fingerprint


def test_another_key_under_the_same_name_signs_only_when_it_is_used(service, alice):
    old = certificate(alice).body.ca
    new = generate_ed25519()
    path = service.settings.keys_folder / "user_ca"
    fresh = path.with_name("user_ca.new")
    fresh.touch(0o600)
    fresh.write_bytes(dump_private_key(new).reveal())
    fresh.rename(path)
    kept = wait_for(service, lambda row: row["held"] == "until a restart")
    assert kept["fingerprint"] == old.fingerprint
    assert signer_of(alice) == old.fingerprint
    (lost,) = events(service, "ca.key_lost")
    assert lost["detail"]["why"] == "user_ca holds another key: this one is in memory until a restart"
    add(service, "user_ca")
    service.act("host renew", name="web1")
    use(service, "user_ca")
    assert signer_of(alice) == new.public.fingerprint


def test_the_key_that_signs_goes_away_and_the_words_say_so(service, alice):
    path = service.settings.keys_folder / "user_ca"
    certificate(alice)
    path.chmod(0o644)
    wait_for(service, lambda row: (row["kind"], row["held"]) == ("user", "no"))
    grant = alice.post("/v1/grants", {"host": "web1"}).json["grant"]["id"]
    refused = alice.post("/v1/certificates", {"grant": grant, "host": "web1"})
    assert refused.status >= 400
    assert "no key SHA256:" in str(refused.json)
    (why,) = events(service, "ca.key_refused")
    assert (why["detail"]["file"], why["detail"]["why"]) == ("user_ca", f"{path} has mode 0644")
    shown = service.jitgate("ca", "ls")
    assert "user_ca is not used" in shown.stderr
    path.chmod(0o600)
    wait_for(service, lambda row: (row["kind"], row["held"]) == ("user", "yes"))
    certificate(alice)


def test_the_host_authority_is_replaced_in_the_same_way(service, alice, tmp_path):
    (old,) = shown_to_all(alice, "host")
    new = generate_ed25519()
    half = tmp_path / "host_ca-2027.pub"
    half.write_text(new.public.line("the next one") + "\n")
    listed = service.jitgate("ca", "add", str(half))
    assert listed.returncode != 0
    assert "--kind" in listed.stderr
    listed = service.jitgate("ca", "add", str(half), "--kind", "host")
    assert listed.returncode == 0, listed.stderr
    assert shown_to_all(alice, "host") == {old, new.public.line()}
    with pytest.raises(Error, match="does not hold"):
        use(service, new.public.fingerprint)
    write_key(service.settings.keys_folder, "host_ca-2027", new)
    wait_for(service, lambda row: row["file"] == "host_ca-2027")
    used = service.jitgate("ca", "use", "host_ca-2027")
    assert used.returncode == 0, used.stderr
    trust = parse(service.act("host renew", name="web1")["trust"].encode())
    assert trust.host_certificate.body.ca == new.public
    assert shown_to_all(alice, "host") == {old, new.public.line()}


def test_a_key_is_listed_for_what_the_signer_holds_it_for(service, tmp_path):
    new = put_key(service)
    with pytest.raises(Error, match="as a user key"):
        add(service, NEXT, kind="host")
    with pytest.raises(Error, match="holds no key"):
        add(service, "nothing")
    with pytest.raises(Error, match="no realm"):
        add(service, "", line=generate_ed25519().public.line(), kind="user", realm="eu")
    private = Path(tmp_path / "private")
    private.write_bytes(dump_private_key(new).reveal())
    done = service.jitgate("ca", "add", str(private))
    assert done.returncode != 0
    assert "private key" in done.stderr
