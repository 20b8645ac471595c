"""A plan replaces a CA key: what holds it up, who may go on, and that nothing else is done beside it."""

import sqlite3
import subprocess
import time
from typing import Any

import pytest
from tests.client import Connection
from tests.flow.test_ca_keys import certificate, events, put_key, rows, shown_to_all, signer_of
from tests.service import ROLES, Service

from jitgate.agent.trust import parse
from jitgate.core.errors import Error

SHORT = ROLES.replace(b"certificate: 15m", b"certificate: 2s")


@pytest.fixture
def service(install) -> Service:
    started: Service = install()
    started.start()
    started.apply(SHORT)
    started.add_host("web1")
    return started


@pytest.fixture
def alice(service: Service) -> Connection:
    return service.enter("alice", "engineers")


def act(service: Service, name: str, kind: str = "user", **more: Any) -> dict[str, Any]:
    told = {"kind": kind, "realm": "default", "reason": "", **more}
    done: dict[str, Any] = service.act(f"ca rotate {name}", **told)
    return done


def start(service: Service, key: str, kind: str = "user", **more: Any) -> dict[str, Any]:
    return act(service, "start", kind, **{"key": key, "emergency": False, **more})


def advance(service: Service, kind: str = "user") -> dict[str, Any]:
    """When what only takes time is over."""
    until = time.monotonic() + 20
    while waiting := service.act("ca rotate status")["plans"][0]["obstacles"]:
        assert all(each["ready_at"] for each in waiting), waiting
        assert time.monotonic() < until
        time.sleep(0.2)
    return act(service, "advance", kind)


def held_up(service: Service, kind: str = "user") -> str:
    with pytest.raises(Error) as refused:
        act(service, "advance", kind)
    assert refused.value.code == "rotation_held_up"
    return refused.value.what


def renew(service: Service, name: str = "web1") -> set[str]:
    """The fingerprints in the host's new trust file."""
    return {key.fingerprint for key in parse(service.act("host renew", name=name)["trust"].encode()).user_ca}


def test_a_user_key_is_replaced_step_by_step(service, alice):
    old = signer_of(alice)
    new = put_key(service).public.fingerprint
    seen = act(service, "plan")
    assert (seen["active"]["fingerprint"], [host["name"] for host in seen["hosts"]]) == (old, ["web1"])
    begun = start(service, new)
    assert (begun["step"], begun["next"], begun["old"]["fingerprint"]) == ("trust", "use", old)
    assert rows(service) == {old: "active", new: "listed"}
    assert "web1 has an older trust file" in held_up(service)
    assert signer_of(alice) == old

    assert renew(service) == {old, new}
    assert act(service, "advance")["step"] == "use"
    assert signer_of(alice) == new
    assert rows(service) == {old: "listed", new: "active"}

    assert advance(service)["step"] == "retire"
    assert rows(service) == {old: "retired", new: "active"}
    assert len(shown_to_all(alice)) == 1
    assert "web1 has an older trust file" in held_up(service)
    assert renew(service) == {new}
    done = act(service, "advance")
    assert (done["step"], done["next"]) == ("done", None)
    assert service.act("ca rotate status")["plans"] == []
    assert signer_of(alice) == new
    kinds = ("ca.rotation_started", "ca.rotation_advanced")
    steps = {event["detail"]["step"] for kind in kinds for event in events(service, kind)}
    assert steps == {"done", "retire", "trust", "use"}


def test_certificates_by_the_old_key_are_waited_for(service, alice):
    service.apply(ROLES)  # a quarter of an hour
    old = signer_of(alice)
    start(service, put_key(service).public.fingerprint)
    renew(service)
    act(service, "advance")
    assert "the last user certificate by the old key ends at" in held_up(service)
    assert rows(service)[old] == "listed"


def test_a_host_key_waits_for_people_and_then_for_hosts(service, alice):
    service.apply(ROLES)
    (old,) = rows(service, "host")
    signer_of(alice)
    start(service, put_key(service, "host_ca-2027").public.fingerprint, "host")
    assert "people whose certificates are older than the key's listing may not know it" in held_up(service, "host")
    act(service, "abort", "host")

    service.apply(SHORT)
    other = service.enter("bob", "engineers")
    service.act("user disable", name="alice")
    service.stop()
    _forget_long_ones(service)
    service.start()
    other.close()
    signer_of(other)
    new = put_key(service, "host_ca-2028").public.fingerprint
    start(service, new, "host")
    assert advance(service, "host")["step"] == "use"
    assert rows(service, "host")[new] == "active"
    assert "web1 shows a certificate by the old key" in held_up(service, "host")
    trust = parse(service.act("host renew", name="web1")["trust"].encode())
    assert trust.host_certificate.body.ca.fingerprint == new
    assert held_up(service, "host").endswith("logins on web1 may be under way that were shown the old certificate")
    assert advance(service, "host")["step"] == "retire"
    other.close()  # it was idle for too long
    assert len(shown_to_all(other, "host")) == 1
    assert act(service, "advance", "host")["step"] == "done"
    assert rows(service, "host")[old] == "retired"


def _forget_long_ones(service: Service) -> None:
    """As if the quarter of an hour were over."""
    with sqlite3.connect(service.state / "jitgate.db") as database:
        database.execute("UPDATE certificate SET valid_before = valid_after + 1000000 WHERE host_id IS NULL")
    database.close()


def test_an_interception_key_goes_through_the_same_steps(service):
    (old,) = rows(service, "interception")
    new = put_key(service, "interception_ca-2027").public.fingerprint
    start(service, new, "interception")
    assert set(rows(service, "interception").values()) == {"active", "listed"}
    for step in ("use", "retire", "done"):
        assert advance(service, "interception")["step"] == step
    assert rows(service, "interception") == {old: "retired", new: "active"}


def test_a_host_that_is_waived_holds_nothing_up_and_the_log_says_who(service):
    service.add_host("web2")
    new = put_key(service).public.fingerprint
    start(service, new)
    renew(service)
    assert "web2" in held_up(service)
    with pytest.raises(Error, match="no host 'web3'"):
        act(service, "waive", hosts=["web3"])
    seen = act(service, "waive", hosts=["web2"], reason="is being taken down")
    assert seen["obstacles"] == []
    assert act(service, "advance")["step"] == "use"
    (event,) = events(service, "ca.rotation_waived")
    assert (event["target"], event["reason"]) == ("host:web2", "is being taken down")


def test_one_plan_at_a_time_and_nothing_beside_it(service, alice):
    old = signer_of(alice)
    new = put_key(service).public.fingerprint
    other = put_key(service, "user_ca-2028").public.fingerprint
    start(service, new)
    for name, more in (("use", {"key": new, "anyway": True}), ("retire", {"key": new})):
        with pytest.raises(Error, match="a plan replaces the user CA key of default: it is at trust"):
            service.act(f"ca {name}", **more)
    with pytest.raises(Error, match="a plan runs for it"):
        start(service, other)
    service.stop()
    service.start()
    alice.close()
    assert [each["step"] for each in service.act("ca rotate status")["plans"]] == ["trust"]

    assert act(service, "abort")["step"] == "aborted"
    assert rows(service)[new] == "retired"
    assert signer_of(alice) == old
    with pytest.raises(Error, match="the new key was retired"):
        start(service, new)
    with pytest.raises(Error, match="no plan replaces"):
        act(service, "advance")


def test_a_plan_that_is_aborted_after_the_new_key_signed_goes_back(service, alice):
    old = signer_of(alice)
    new = put_key(service).public.fingerprint
    start(service, new)
    renew(service)
    act(service, "advance")
    assert signer_of(alice) == new
    act(service, "abort")
    assert signer_of(alice) == old
    assert rows(service) == {old: "active", new: "listed"}  # what it signed is good until it ends

    start(service, new)  # listed before: hosts have it
    renew(service)
    act(service, "advance")
    advance(service)
    with pytest.raises(Error, match="retired, and does not come back"):
        act(service, "abort")


def test_a_stolen_key_is_replaced_in_one_act(service, alice, tmp_path):
    by_old = certificate(alice)
    old = by_old.body.ca.fingerprint
    new = put_key(service).public.fingerprint
    begun = start(service, new, emergency=True, reason="a laptop was stolen")
    assert (begun["step"], begun["emergency"]) == ("retire", True)
    assert rows(service) == {old: "retired", new: "active"}
    assert len(shown_to_all(alice)) == 1
    by_new = certificate(alice)
    assert by_new.body.ca.fingerprint == new
    krl = tmp_path / "krl"
    krl.write_bytes(alice.get("/.well-known/jitgate/krl?realm=default").body)
    for made, status in ((by_old, 1), (by_new, 0)):
        (tmp_path / "cert.pub").write_text(made.line() + "\n")
        asked = ["ssh-keygen", "-Q", "-f", str(krl), str(tmp_path / "cert.pub")]
        done = subprocess.run(asked, capture_output=True, text=True, check=False)
        assert done.returncode == status, done.stdout + done.stderr
    assert "web1" in held_up(service)
    with pytest.raises(Error, match="does not come back"):
        act(service, "abort")
    assert renew(service) == {new}
    assert act(service, "advance")["step"] == "done"


def test_a_key_of_another_kind_or_realm_is_no_successor(service):
    with pytest.raises(Error, match="this is a host key of default"):
        start(service, "host_ca")
    with pytest.raises(Error, match="signs already"):
        start(service, "user_ca")
    with pytest.raises(Error, match="no user CA key in use"):
        act(service, "plan", realm="eu")
