"""Who is let through: each fact that is missing or another refuses, by its own code."""

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.policy.given import GRANT, NOW, WEB, facts, permitted, person, policy

from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.grants.lifecycle import end, open_grant
from jitgate.grants.model import Grant
from jitgate.hosts.model import Host
from jitgate.identity.model import RegisteredKey
from jitgate.policy.model import Ask
from jitgate.sessions.admit import SESSIONS_PER_GRANT, Admission, Facts, Refusal, admit
from jitgate.sessions.ticket import Ticket
from jitgate.ssh.private import generate_ed25519

OPS = person("ops")
OTHER = "01HF7YAT00TEST0000000000ZZ"
HOME = facts().source
WEB1 = facts().host
HOST = Host(
    OTHER, WEB1.realm, WEB1.name, "192.0.2.80", 22, WEB1.labels, WEB1.logins, generate_ed25519().public, NOW
)  # fmt: skip
KEY = RegisteredKey(GRANT, OPS.person_id, generate_ed25519().public, "", NOW)
TICKET = Ticket(GRANT, GRANT, KEY.id, HOST.id, HOST.name, "ubuntu", NOW + 15 * MINUTE)


def opened(role: str = WEB) -> Grant:
    return open_grant(permitted(policy(role), OPS, Ask("web1")), (), NOW, lambda: GRANT)


def known(role: str = WEB, **changed: Any) -> Facts:
    return replace(Facts(OPS, KEY, opened(role), HOST, policy(role), 0), **changed)


def answer(
    ticket: Ticket = TICKET, *, source: str = HOME, now: int = NOW + MINUTE, **changed: Any
) -> Admission | Refusal:
    return admit(ticket, "web1", source, known(**changed), now)


def code(found: Admission | Refusal) -> str:
    assert isinstance(found, Refusal), found
    assert found.error.what
    return found.error.code


def test_a_sound_ticket_is_let_through_until_the_grants_end():
    found = answer()
    assert isinstance(found, Admission)
    assert (found.host, found.login, found.key_id) == (HOST, "ubuntu", KEY.id)
    assert found.ends_at == opened().ends_at


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"identity": None}, "not_signed_in"),
        ({"identity": replace(OPS, person_id=OTHER)}, "key_not_registered"),
        ({"key": None}, "key_not_registered"),
        ({"key": replace(KEY, id=OTHER)}, "key_not_registered"),
        ({"key": replace(KEY, removed_at=NOW)}, "key_not_registered"),
        ({"grant": None}, "not_found"),
        ({"grant": end(opened(), "by an admin", NOW + 1)}, "grant_ended"),
        ({"host": None}, "host_gone"),
        ({"host": replace(HOST, id=GRANT)}, "host_gone"),
        ({"host": replace(HOST, logins=("root",))}, "login_refused"),
        ({"policy": None}, "no_policy"),
        ({"policy": policy(WEB.replace("ops", "others"))}, "no_role"),
        ({"sessions": SESSIONS_PER_GRANT}, "too_many"),
    ],
)
def test_each_fact_counts(changed: dict[str, Any], expected: str):
    assert code(answer(**changed)) == expected


def test_a_ticket_is_for_its_host_and_its_time():
    assert code(admit(TICKET, "web2", HOME, known(), NOW)) == "ticket_other_host"
    assert isinstance(answer(now=TICKET.expires_at - 1), Admission)
    assert code(answer(now=TICKET.expires_at)) == "ticket_ended"
    late = replace(TICKET, expires_at=NOW + 100 * HOUR)
    assert code(answer(late, now=opened().ends_at)) == "grant_ended"


def test_a_login_of_another_grant_is_not_carried():
    assert code(answer(replace(TICKET, login="root"))) == "denied"


def test_todays_policy_may_shorten_and_never_lengthen():
    role = WEB + "how_long: {grant: 2h}\n"
    shorter = answer(role=role, policy=policy(WEB + "how_long: {grant: 30m}\n"))
    assert isinstance(shorter, Admission)
    assert shorter.ends_at == NOW + 30 * MINUTE
    longer = answer(role=role, policy=policy(WEB + "how_long: {grant: 9h}\n"))
    assert isinstance(longer, Admission)
    assert longer.ends_at == NOW + 2 * HOUR


@pytest.mark.parametrize(
    ("role", "seconds"),
    [
        ("how_long: {grant: 1h}\n", 3600),
        ("how_long: {grant: 1h}\nmax_session: 10m\n", 60 + 600),
        ("how_long: {grant: 1h}\nmax_session: 3h\n", 3600),
        ("how_long: {grant: 1h}\nmax_session: 3h\non_expiry: keep\n", 60 + 3 * 3600),
        ("how_long: {grant: 1h}\nmax_session: 10m\non_expiry: keep\n", 60 + 600),
    ],
)
def test_when_a_session_ends(role: str, seconds: int):
    """From a minute into the grant."""
    found = answer(role=WEB + role)
    assert isinstance(found, Admission)
    assert found.ends_at == NOW + seconds * SECOND


def test_the_source_is_asked_where_the_host_cannot():
    asked = WEB + "options: {source_address: [192.0.2.0/24, 2001:db8::/32]}\n"
    for inside in ("192.0.2.9", "2001:db8::9"):
        assert isinstance(answer(role=asked, source=inside), Admission)
    for outside in ("198.51.100.1", "2001:db9::1"):
        assert code(answer(role=asked, source=outside)) == "source_refused"
    client = WEB + "options: {source_address: client}\n"
    assert isinstance(answer(role=client), Admission)
    assert code(answer(role=client, source="192.0.2.9")) == "denied"


def test_a_role_for_some_networks_is_asked_again():
    asked = WEB.replace("who: {groups: [ops]}", "who: {groups: [ops], sources: [192.0.2.0/24]}")
    assert asked != WEB
    assert isinstance(answer(role=asked), Admission)
    assert code(answer(role=asked, source="198.51.100.1")) == "source_refused"
