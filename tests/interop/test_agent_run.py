"""`jitgate agent run` beside a real sshd: what is told reaches logins, and what must not be obeyed is not."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from tests.enroller import Enroller, krl_of
from tests.interop.agents import join, log_of, running, state_of, status, until
from tests.interop.trusting import let_in_by_key, opens
from tests.unit.agent.trusts import USER_CA

from jitgate.app.local_sshd import LocalHost
from jitgate.core.clock import SECOND, system_clock
from jitgate.core.ids import new_id
from jitgate.hosts.agent_wire import AgentHello, BundleSent, CertificateSent, Refused, Renew, TrustSent
from jitgate.hosts.bundle import krl_digest
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519

OWNER = generate_ed25519()
RESIDENT_MAX = 42 << 10  # KiB: under 40 MiB with Python 3.11, 40.6 with 3.13


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu", "deploy")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu", "deploy")) as service:
        done = join(host, service)
        assert done.returncode == 0, done.stdout + done.stderr
        yield service


def enters(host: LocalHost, serial: int) -> bool:
    return opens(host, "ubuntu", "ubuntu@host:web1", serial=serial)


def test_what_is_revoked_is_refused_and_acknowledged(host: LocalHost, service: Enroller):
    with running(host, service) as process:
        assert enters(host, 7)
        told = service.revoke(7)
        service.wait(lambda: service.acked(told.version))
        assert not enters(host, 7)
        assert enters(host, 8)
        resident = int(Path(f"/proc/{process.pid}/status").read_text().partition("VmRSS:")[2].split()[0])
        assert resident < RESIDENT_MAX
        until(lambda: status(host)["bundle"] == list(told.version))
        assert len(status(host)["connected"]) == 2  # type: ignore[arg-type]  # a list
        assert status(host)["problems"] == []
    assert opens(host, "ubuntu", key=OWNER)


def test_a_replayed_bundle_is_refused_and_alarmed_and_a_new_epoch_is_taken(host: LocalHost, service: Enroller):
    old, old_krl = service.bundle_envelope(), service.krl
    with running(host, service):
        told = service.revoke(7)
        service.wait(lambda: service.acked(told.version))
        service.send(BundleSent(old, old_krl))
        service.wait(lambda: service.problem("refused_bundle"))
        assert service.acks[-1].have.bundle == told.version
        assert not enters(host, 7)
        restored = service.revoke(9, epoch=2)  # a database that was put back: its counter begins lower
        assert restored.version[1] < told.version[1]
        service.wait(lambda: service.acked(restored.version) and not service.acks[-1].problems)
        assert enters(host, 7)
        assert not enters(host, 9)


def test_what_is_not_ours_or_not_signed_is_not_obeyed(host: LocalHost, service: Enroller):
    now = system_clock()
    stranger, krl = generate_ed25519(), krl_of(7)
    other_id = new_id(now, os.urandom)
    newer = replace(service.bundle, version=(1, 9, now), made_at=now, expires_at=now + SECOND)
    with running(host, service):
        for changed, signer, code in (
            ({}, stranger, "wrong_key"),
            ({"installation": other_id}, None, "other_installation"),
            ({"realm": "other"}, None, "other_realm"),
            ({"host_id": other_id}, None, "other_host"),
            ({"host": "web2"}, None, "other_host"),
            ({"krl": "0" * 64}, None, "other_krl"),
        ):
            service.acks.clear()
            forged = replace(newer, **changed)  # type: ignore[arg-type]  # by name
            kept, service.bundle, online = service.bundle, forged, service.online
            service.online = signer or online
            envelope = service.bundle_envelope()
            service.bundle, service.online = kept, online
            service.send(BundleSent(envelope, krl))
            service.wait(partial(was_told, service, code))
        own = generate_ed25519()
        for kept_root, trust in (
            (stranger, replace(service.trust, version=(1, 9), user=(own.public,))),
            (service.root, replace(service.trust, version=(1, 9), realm="other", user=(own.public,))),
            (service.root, replace(service.trust, version=(1, 9), user=(service.root.public,))),
        ):
            service.acks.clear()
            root, before = service.root, service.trust
            service.root, service.trust = kept_root, trust
            envelope = service.trust_envelope()
            service.root, service.trust = root, before
            service.send(TrustSent(envelope))
            service.wait(lambda: service.problem("refused_trust"))
        assert enters(host, 7)
        assert not opens(host, "ubuntu", "ubuntu@host:web1", ca=own)


def was_told(service: Enroller, code: str) -> bool:
    return any(code in each.detail for ack in service.acks for each in ack.problems)


def test_a_list_that_it_lacks_is_asked_for_anew(host: LocalHost, service: Enroller):
    with running(host, service):
        told = service.revoke(7)
        service.wait(lambda: service.acked(told.version))
        now = service.bundle.made_at + 1
        service.krl = krl_of(8)
        service.bundle = replace(service.bundle, krl=krl_digest(service.krl), version=(1, 9, now), made_at=now)
        service.said.clear()
        service.send(BundleSent(service.bundle_envelope(), None))
        service.wait(lambda: service.acked((1, 9, now)))
        assert any(isinstance(each, AgentHello) and each.have.krl == "" for each in service.said)
        assert not enters(host, 8)


def test_a_bundle_can_add_no_key_login_or_scope(host: LocalHost, service: Enroller):
    """It has no field for it; and a trust list changes keys, never what they open."""
    with running(host, service):
        service.list_keys(USER_CA.public, OWNER.public)
        service.wait(lambda: service.acked(service.trust.version))
    files = {path.name: path.read_text() for path in (host.etc / "jitgate/principals").iterdir()}
    assert files == {"ubuntu": "ubuntu@host:web1\n", "deploy": "deploy@host:web1\n"}


def test_ca_keys_change_with_the_trust_list(host: LocalHost, service: Enroller):
    newer = generate_ed25519()
    with running(host, service):
        service.list_keys(USER_CA.public, newer.public)
        service.wait(lambda: service.acked(service.trust.version))
        assert opens(host, "ubuntu", "ubuntu@host:web1", ca=newer)
        assert opens(host, "ubuntu", "ubuntu@host:web1")
        service.list_keys(newer.public)
        service.wait(lambda: service.acked(service.trust.version))
        assert opens(host, "ubuntu", "ubuntu@host:web1", ca=newer)
        assert not opens(host, "ubuntu", "ubuntu@host:web1")


def test_a_replayed_trust_list_brings_no_key_back(host: LocalHost, service: Enroller):
    old, newer = service.trust_envelope(), generate_ed25519()
    with running(host, service):
        service.list_keys(newer.public)
        service.wait(lambda: service.acked(service.trust.version))
        service.send(TrustSent(old))
        service.wait(lambda: service.problem("refused_trust"))
        assert service.acks[-1].have.trust == service.trust.version
        assert not opens(host, "ubuntu", "ubuntu@host:web1")
        assert opens(host, "ubuntu", "ubuntu@host:web1", ca=newer)


def test_a_new_online_key_begins_its_versions_anew(host: LocalHost, service: Enroller):
    """Who had the old key for an hour may have used up all versions."""
    with running(host, service):
        far = service.revoke(7, epoch=1 << 40)
        service.wait(lambda: service.acked(far.version))
        service.online = generate_ed25519()
        service.list_keys(online=service.online.public)
        service.wait(lambda: service.acked(service.trust.version))
        assert not enters(host, 7)
        told = service.revoke(8, epoch=2)
        service.wait(lambda: service.acked(told.version))
        assert enters(host, 7)
        assert not enters(host, 8)


def test_it_works_without_the_service_and_goes_on_when_it_is_back(host: LocalHost, service: Enroller):
    with running(host, service):
        service.revoke(7)
        service.wait(lambda: service.acked(service.bundle.version))
        service.close_gateways(only=0)
        service.wait(lambda: service.connected() == 1)
        service.revoke(8)
        service.wait(lambda: service.acked(service.bundle.version))
        service.close_gateways()
        assert not enters(host, 8)
        assert enters(host, 9)
        until(lambda: status(host)["connected"] == [])
    service.acks.clear()
    with running(host):
        assert enters(host, 9)
        assert not enters(host, 8)
        service.revoke(9)
        service.open_gateways()
        service.wait(lambda: service.acked(service.bundle.version))
        assert not enters(host, 9)


def test_the_host_certificate_is_renewed_at_two_thirds_of_its_life(host: LocalHost, service: Enroller):
    """One that began a minute ago and lasts 20 s more: two thirds of it are over."""
    with running(host, service):
        assert not any(isinstance(each, Renew) for each in service.said)
        service.lasts = 20
        old = service.certificate()
        service.lasts = 7200
        service.send(CertificateSent(old))
        service.wait(lambda: any(isinstance(each, Renew) for each in service.said))
        until(lambda: is_certified(host, service.certificates[-1]))
        assert enters(host, 1)
        assert service.certificates[-1] != old


def test_a_certificate_by_the_new_host_key_is_asked_for_as_soon_as_that_one_signs(host: LocalHost, service: Enroller):
    """The first key of the list is the one that signs."""
    with running(host, service):
        old, new = service.host_ca, generate_ed25519()
        listed = service.list_keys(host=(old.public, new.public))
        service.wait(lambda: service.acked(listed.version))
        assert not any(isinstance(each, Renew) for each in service.said)
        service.host_ca = new
        service.list_keys(host=(new.public, old.public))
        service.wait(lambda: any(isinstance(each, Renew) for each in service.said))
        until(lambda: is_certified(host, service.certificates[-1]))
        assert parse_certificate_line(service.certificates[-1]).body.ca == new.public


def is_certified(host: LocalHost, line: str) -> bool:
    """Whether that is what sshd shows."""
    asked = ["ssh-keyscan", "-c", "-t", "ed25519", "-p", str(host.port), host.address]
    shown = subprocess.run(asked, capture_output=True, text=True, check=False).stdout
    return line in shown


def test_a_clock_that_is_off_is_reported(host: LocalHost, service: Enroller):
    service.clock_off = 3600 * SECOND
    with running(host, service):
        service.wait(lambda: service.problem("clock"))


def test_an_old_bundle_is_an_alarm_and_closes_nothing(host: LocalHost, service: Enroller):
    with running(host, service):
        now = system_clock()
        service.revoke(7, expires_at=now + 2 * SECOND)
        service.wait(lambda: service.problem("expired_bundle"))
        assert enters(host, 8)
        assert not enters(host, 7)
        service.revoke(7)
        service.wait(lambda: not service.problem("expired_bundle"))


def test_a_host_that_is_refused_says_why_and_keeps_what_it_has(host: LocalHost, service: Enroller):
    service.refuse = Refused("removed", "this host was removed", "jitctl hosts add web1")
    with running(host):
        until(lambda: "the service refuses this host: this host was removed" in log_of(host))
        assert enters(host, 7)


def test_killed_it_takes_up_where_it_was(host: LocalHost, service: Enroller):
    with running(host, service) as process:
        service.revoke(7)
        service.wait(lambda: service.acked(service.bundle.version))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not enters(host, 7)
    service.wait(lambda: service.connected() == 0)
    service.acks.clear()
    with running(host, service):
        service.wait(lambda: service.acked(service.bundle.version) and service.acked(service.trust.version))
        assert len(list(state_of(host).glob("krl-*"))) == 1
