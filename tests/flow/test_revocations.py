"""What is revoked: by whom, what ends with it, what the list then says, and that nothing slips through."""

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from tests.client import Answer
from tests.world import HOME, OPERATOR, ROLES, Visitor, World, sql

from jitgate.ca.model import SignRequest
from jitgate.ca.realms import Authority, CaKind, Phase
from jitgate.ca.revocation import MARGIN, What
from jitgate.core.clock import HOUR, MINUTE
from jitgate.core.errors import Unreachable
from jitgate.core.secret import Secret
from jitgate.flow import certificates
from jitgate.flow.audit import reconcile
from jitgate.flow.krl import current_krl
from jitgate.flow.people import disable_person, enable_person
from jitgate.flow.revocations import Order, revoke_as_operator
from jitgate.flow.sessions import ask_session, node_seen, open_session, sessions_to_end
from jitgate.hosts.enrolment import HostState
from jitgate.sessions.path import GatewayPath
from jitgate.ssh.cert import Certificate, join, parse_certificate_line, to_be_signed
from jitgate.ssh.krl import Krl, parse_krl
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases


async def listed(world: World) -> Krl:
    return parse_krl((await current_krl(world.outside, "default"))[0])


async def is_revoked(world: World, certificate: Certificate) -> bool:
    body = certificate.body
    krl = await listed(world)
    return krl.has_certificate(body.key.blob, body.ca.blob, body.serial, body.key_id.encode())


async def issued(visitor: Visitor, host: str = "web1") -> Certificate:
    await visitor.grant(host)
    answer = await visitor.certificate(host)
    assert answer.status == 201, answer
    return parse_certificate_line(answer.json["certificate"])


async def revoke(visitor: Visitor, what: str, subject: str, **more: str) -> Answer:
    return await visitor.post("/v1/revocations", {"what": what, "subject": subject, **more})


async def authority(world: World, kind: CaKind = CaKind.USER) -> Authority:
    found = await world.store.read(lambda tx: tx.authorities.all())
    return next(each for each in found if each.kind is kind)


Named = Callable[[World, Visitor, Certificate], Awaitable[tuple[str, str]]]


async def by_serial(_world: World, _alice: Visitor, certificate: Certificate) -> tuple[str, str]:
    return "certificate", str(certificate.body.serial)


async def by_grant(_world: World, alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "grant", alice.granted


async def by_key_line(_world: World, alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "key", alice.signer.key.public.line("alice@laptop")


async def by_fingerprint(_world: World, alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "key", alice.signer.key.public.fingerprint


async def by_key_id(_world: World, alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "key", (await alice.get("/v1/keys")).json["keys"][0]["id"]


async def by_person(_world: World, _alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "person", "alice"


async def by_host(_world: World, _alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "host", "web1"


async def by_range(_world: World, _alice: Visitor, certificate: Certificate) -> tuple[str, str]:
    return "serials", f"{certificate.body.serial}-{certificate.body.serial}"


async def by_authority(world: World, _alice: Visitor, _certificate: Certificate) -> tuple[str, str]:
    return "ca", (await authority(world)).key.fingerprint


OWN: dict[str, Named] = {
    "certificate": by_serial,
    "grant": by_grant,
    "key": by_key_line,
    "key by its fingerprint": by_fingerprint,
    "key by its id": by_key_id,
    "person": by_person,
}
ALL = OWN | {"host": by_host, "serials": by_range, "ca": by_authority}


@pytest.mark.parametrize("named", ALL.values(), ids=ALL)
async def test_what_is_revoked_is_in_the_list_and_nothing_else(world: World, named: Named):
    alice, bob, olga = await world.enter("alice"), await world.enter("bob"), await world.enter("olga")
    certificate, other = await issued(alice), await issued(bob, "web2")
    assert not await is_revoked(world, certificate)
    what, subject = await named(world, alice, certificate)
    answer = await revoke(olga, what, subject, reason="lost laptop")
    assert answer.status == 201, answer
    assert await is_revoked(world, certificate)
    assert await is_revoked(world, other) == (what == "ca")
    (event,) = await world.events("revocation.made")
    assert (event["reason"], event["actor"]["name"]) == ("lost laptop", "olga")
    said = answer.json["revocation"]
    assert event["detail"]["revocation"] == said["id"]
    assert (event["detail"]["serials"], event["detail"]["keys"]) == (said["serials"], said["keys"])
    assert said["serials"] + said["keys"] >= 1


@pytest.mark.parametrize("named", OWN.values(), ids=OWN)
async def test_ones_own_is_ones_own_to_revoke(world: World, named: Named):
    alice = await world.enter("alice")
    certificate = await issued(alice)
    answer = await revoke(alice, *await named(world, alice, certificate))
    assert answer.status == 201, answer
    assert await is_revoked(world, certificate)


@pytest.mark.parametrize("named", ALL.values(), ids=ALL)
async def test_other_peoples_is_not(world: World, named: Named):
    alice, bob = await world.enter("alice"), await world.enter("bob")
    certificate = await issued(alice)
    what, subject = await named(world, alice, certificate)
    before = await world.size()
    answer = await revoke(bob, what, subject)
    assert answer.status == (403 if what in ("host", "serials", "ca") else 404), answer
    assert not await is_revoked(world, certificate)
    assert [event["type"] for event in await world.events(after=before)] == ["request.refused"]
    assert (await alice.certificate()).status == 201


@pytest.mark.parametrize("named", ALL.values(), ids=ALL)
async def test_a_certificate_that_is_being_made_is_not_released(world: World, named: Named):
    """Stopped between the signature and the commit: the revocation comes first, and finds no row of it."""
    alice, olga = await world.enter("alice"), await world.enter("olga")
    first = await issued(alice)
    what, subject = await named(world, alice, first)

    async def meanwhile() -> None:
        assert (await revoke(olga, what, subject)).status == 201

    world.signer.hook = meanwhile
    before = await world.size()
    answer = await alice.certificate()
    kinds = [event["type"] for event in await world.events("certificate", after=before)]
    assert kinds[0] == "certificate.unreleased"
    if what == "serials":  # the grant ended with the certificate that was in the range
        assert answer.code == "conflict"
    assert answer.status != 201
    assert "certificate" not in answer.json


async def test_without_looking_again_it_would_be_released(world: World, monkeypatch: pytest.MonkeyPatch):
    """The test above sees the defence: taken out, a certificate leaves that no list names."""
    monkeypatch.setattr(certificates, "_still_so", lambda *_: True)
    alice, olga = await world.enter("alice"), await world.enter("olga")
    await alice.grant()

    async def meanwhile() -> None:
        assert (await revoke(olga, "grant", alice.granted)).status == 201

    world.signer.hook = meanwhile
    answer = await alice.certificate()
    assert answer.status == 201
    assert not await is_revoked(world, parse_certificate_line(answer.json["certificate"]))


async def test_a_person_loses_everything_at_once(world: World):
    alice, phone, olga = await world.enter("alice"), await world.enter("alice"), await world.enter("olga")
    out = [await issued(alice), await issued(phone, "web2")]
    before = await world.size()
    answer = await revoke(olga, "person", "alice")
    assert (answer.json["revocation"]["serials"], answer.json["revocation"]["keys"]) == (2, 2)
    krl = await listed(world)
    assert krl.keys == {alice.signer.key.public.blob, phone.signer.key.public.blob}
    assert all([await is_revoked(world, each) for each in out])
    assert (await alice.get("/v1/me")).status == 401
    kinds = [event["type"] for event in await world.events(after=before)]
    assert sorted(set(kinds)) == ["grant.ended", "key.removed", "revocation.made"]
    assert (kinds.count("grant.ended"), kinds.count("key.removed")) == (2, 2)


KEEP = b"""
role: keep
effect: allow
who: {groups: [engineers]}
what: {hosts: [web1]}
as: [ubuntu]
how_long: {grant: 10m, certificate: 5m}
on_expiry: keep
max_session: 8h
"""


@pytest.mark.parametrize("named", [by_grant, by_person, by_key_line, by_host])
async def test_a_session_that_outlives_its_grant_ends_too(world: World, named: Named):
    path = GatewayPath("127.0.0.1", 1, "127.0.0.1", keep_tls=False, networks=(), only=False, key=Secret(b"k" * 32))
    world.change(gateway=path, node=world.new_id())
    await world.apply(KEEP, ROLES.replace(b"[web1, web2]", b"[web2]"))
    await node_seen(world.outside, "node1")
    alice, olga = await world.enter("alice"), await world.enter("olga")
    opened = []
    for each, host in ((alice, "web1"), (await world.enter("bob"), "web2")):
        await each.grant(host)
        answer = await each.certificate(host)
        asked = await ask_session(world.outside, answer.json["tunnel"]["ticket"], host, HOME)
        opened.append(await open_session(world.outside, asked, 40_000))
    world.clock.advance(20 * MINUTE)
    assert await sessions_to_end(world.outside, afresh=True) == []
    answer = await revoke(olga, *await named(world, alice, parse_certificate_line(answer.json["certificate"])))
    assert answer.status == 201, answer
    assert [each for each, _ in await sessions_to_end(world.outside, afresh=True)] == [opened[0].id]


async def test_a_revoked_key_never_comes_back(world: World):
    alice = await world.enter("alice")
    lost = alice.signer.key
    assert (await revoke(alice, "person", "alice")).status == 201
    again = world.stranger()
    again.signer.key = lost
    answer = await again.sign_in("alice")
    assert (answer.status, answer.code) == (400, "key_revoked"), answer
    world.clock.advance(MINUTE)  # for the next one-time code
    assert (await world.stranger().sign_in("alice")).status == 201


async def test_a_key_that_nobody_registered(world: World):
    olga, found = await world.enter("olga"), generate_ed25519().public
    assert (await revoke(olga, "key", found.line())).status == 201
    assert (await listed(world)).keys == {found.blob}
    assert (await revoke(olga, "key", found.line())).code == "conflict"
    stranger = await world.enter("bob")
    assert (await revoke(stranger, "key", found.line())).status == 404


async def test_keys_that_are_something_else(world: World):
    olga = await world.enter("olga")
    host = (await world.store.read(lambda tx: tx.hosts.all()))[0]
    for line, hint in (
        ((await authority(world)).key.line(), "jitctl revoke ca"),
        (host.key.line(), f"jitctl revoke host {host.name}"),
    ):
        answer = await revoke(olga, "key", line)
        assert (answer.status, answer.json["hint"].startswith(hint)) == (400, True), answer
    assert not (await listed(world)).keys


async def test_a_host_is_gone_with_its_key_and_certificates(world: World):
    olga = await world.enter("olga")
    host = next(each for each in await world.store.read(lambda tx: tx.hosts.all()) if each.name == "web1")
    answer = await revoke(olga, "host", "web1")
    assert (answer.json["revocation"]["serials"], answer.json["revocation"]["keys"]) == (1, 1)
    krl, ca = await listed(world), (await authority(world, CaKind.HOST)).key.blob
    assert host.key.blob in krl.keys
    assert len(list(krl.certificates[ca].serials)) == 1
    assert not [each for each in await world.store.read(lambda tx: tx.hosts.all()) if each.name == "web1"]


async def test_a_ca_key_signs_no_more_and_takes_all_with_it(world: World):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    ca = await authority(world)
    await alice.grant()
    assert (await revoke(olga, "ca", ca.key.fingerprint)).status == 201
    assert (await authority(world)).phase is Phase.RETIRED
    assert ca.key.blob in (await listed(world)).keys
    assert (await alice.certificate()).code == Unreachable.default_code
    assert (await revoke(olga, "ca", ca.key.fingerprint)).code == "conflict"


async def test_serials_of_a_range_are_not_used_again(world: World):
    """Those that were reserved and are not used yet lie in it, here and at other nodes."""
    alice, olga = await world.enter("alice"), await world.enter("olga")
    first, ca = await issued(alice), await authority(world)
    given_out = await world.store.read(lambda tx: tx.authorities.next_serial(ca.id))
    assert first.body.serial < given_out - 1
    answer = await revoke(olga, "serials", f"1-{given_out - 1}")
    assert answer.status == 201, answer
    assert await is_revoked(world, first)
    second = await issued(alice)
    assert second.body.serial >= given_out
    assert not await is_revoked(world, second)


WRONG = [
    ("certificate", "0"),
    ("certificate", "-1"),
    ("certificate", "1e3"),
    ("certificate", "99999999999999999999"),
    ("serials", "5"),
    ("serials", "0-5"),
    ("serials", "9-8"),
    ("serials", "1-9223372036854775807"),
    ("key", "SHA256:nobody"),
    ("key", "ssh-ed25519 AAAA"),
    ("person", "nobody"),
    ("host", "nobody"),
    ("grant", "01J8Z0K3V4WQ2M5N6P7R8S9TAB"),
    ("ca", "SHA256:nobody"),
    ("everything", "x"),
]


@pytest.mark.parametrize(("what", "subject"), WRONG, ids=[" ".join(each) for each in WRONG])
async def test_orders_that_are_refused(world: World, what: str, subject: str):
    olga, before = await world.enter("olga"), await current_krl(world.outside, "default")
    answer = await revoke(olga, what, subject)
    assert answer.status in (400, 404, 422), answer
    assert await current_krl(world.outside, "default") == before


async def test_a_token_alone_revokes_nothing(world: World):
    alice = await world.enter("alice")
    certificate = await issued(alice)
    order = {"what": "certificate", "subject": str(certificate.body.serial)}
    answer = await alice.post("/v1/revocations", order, headers={"jitgate-proof": ""})
    assert answer.status in (400, 403)
    assert not await is_revoked(world, certificate)


async def test_what_ends_early_is_revoked_and_what_runs_out_is_not(world: World):
    alice = await world.enter("alice")
    certificate = await issued(alice)
    await alice.post(f"/v1/grants/{alice.granted}/end")
    assert await is_revoked(world, certificate)
    bob = await world.enter("bob")
    other = await issued(bob)
    world.clock.advance(2 * HOUR)
    assert not await is_revoked(world, other)


async def test_who_is_disabled_is_revoked_and_gets_the_key_back_when_enabled(world: World):
    alice = await world.enter("alice")
    certificate = await issued(alice)
    await disable_person(world.outside, OPERATOR, "alice")
    assert await is_revoked(world, certificate)
    assert alice.signer.key.public.blob in (await listed(world)).keys
    await enable_person(world.outside, OPERATOR, "alice")
    assert not (await listed(world)).keys
    assert await is_revoked(world, certificate)  # by its serial


async def test_what_has_ended_leaves_the_list_and_the_table_after_a_margin(world: World):
    alice, bob = await world.enter("alice"), await world.enter("bob")
    certificate = await issued(alice)
    assert (await revoke(alice, "key", alice.signer.key.public.line())).status == 201
    await alice_ends(world, certificate)
    world.clock.advance(15 * MINUTE + MARGIN - MINUTE)
    await issued_and_ended(bob)  # any act that takes something away
    assert certificate.body.serial in (await listed(world)).certificates[certificate.body.ca.blob].serials
    world.clock.advance(2 * MINUTE)
    await issued_and_ended(bob)
    krl = await listed(world)
    assert certificate.body.serial not in krl.certificates[certificate.body.ca.blob].serials
    assert alice.signer.key.public.blob in krl.keys  # keys stay
    rows = await world.store.read(lambda tx: list(tx.revocations.serials("default", 0)))
    assert certificate.body.serial not in [first for _, first, _ in rows]


async def alice_ends(world: World, certificate: Certificate) -> None:
    await revoke_as_operator(world.outside, OPERATOR, Order(What.CERTIFICATE, str(certificate.body.serial)))


async def issued_and_ended(visitor: Visitor) -> None:
    await issued(visitor)
    assert (await visitor.post(f"/v1/grants/{visitor.granted}/end")).status == 200


async def test_each_act_moves_the_counter(world: World):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    await issued(alice)
    before = await world.store.read(lambda tx: tx.state())
    answer = await revoke(olga, "grant", alice.granted)
    after = await world.store.read(lambda tx: tx.state())
    assert before < answer.json["revocation"]["counter"] <= after
    krl = await listed(world)
    assert krl.version == after


async def test_other_realms_have_lists_of_their_own(world: World):
    alice = await world.enter("alice")
    certificate = await issued(alice)
    await world.store.write(lambda tx: sql(tx, "INSERT INTO realm (id, created_at) VALUES ('other', 1)"))
    assert (await revoke(alice, "grant", alice.granted)).status == 201
    assert (await revoke(alice, "key", alice.signer.key.public.line())).status == 201
    other = parse_krl((await current_krl(world.outside, "other"))[0])
    assert not other.certificates
    assert other.keys == {alice.signer.key.public.blob}  # a person's key is a person's key
    assert await is_revoked(world, certificate)


async def test_the_list_is_served(world: World):
    alice, anybody = await world.enter("alice"), world.stranger()
    about = (await anybody.get("/.well-known/jitgate")).json["realms"][0]["krl"]
    assert about["path"] == "/.well-known/jitgate/krl?realm=default"
    first = await anybody.get(about["path"])
    assert (first.status, first.headers["etag"]) == (200, f'"{about["sha256"]}"')
    assert parse_krl(first.body) == await listed(world)
    again = await anybody.get(about["path"], headers={"If-None-Match": first.headers["etag"]})
    assert (again.status, again.body) == (304, b"")
    await issued(alice)
    assert (await revoke(alice, "grant", alice.granted)).status == 201
    second = await anybody.get(about["path"], headers={"If-None-Match": first.headers["etag"]})
    assert second.status == 200
    assert second.body != first.body
    assert (await anybody.get("/.well-known/jitgate/krl?realm=nowhere")).status == 404


async def test_revocations_are_listed_for_whom_they_concern(world: World):
    alice, bob, olga = await world.enter("alice"), await world.enter("bob"), await world.enter("olga")
    await issued(alice)
    answer = await revoke(alice, "grant", alice.granted)
    assert answer.status == 201, answer
    made = answer.json["revocation"]
    assert [each["id"] for each in (await alice.get("/v1/revocations")).json["revocations"]] == [made["id"]]
    assert (await bob.get("/v1/revocations")).json["revocations"] == []
    assert (await bob.get(f"/v1/revocations/{made['id']}")).status == 404
    assert (await bob.get("/v1/revocations?everybody=true")).status == 403
    assert (await olga.get("/v1/revocations?everybody=true")).json["revocations"][0]["id"] == made["id"]
    shown = (await olga.get(f"/v1/revocations/{made['id']}")).json
    assert shown["progress"]["without_agent"] == ["db1", "web1", "web2"]
    mine = (await alice.get(f"/v1/revocations/{made['id']}")).json["progress"]
    assert (mine["hosts"], mine["without_agent"]) == (3, [])  # names of hosts are not everybody's


async def test_how_far_hosts_know_of_it(world: World):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    ids = {host.name: host.id for host in await world.store.read(lambda tx: tx.hosts.all())}
    before = HostState(ids["web1"], "default", "", world.clock(), world.clock(), bundle=(0, 0, 1), bundle_at=1)
    await world.store.write(lambda tx: tx.host_states.put([before, replace(before, host_id=ids["web2"])]))
    await issued(alice)
    made = (await revoke(olga, "grant", alice.granted)).json["revocation"]
    state = await world.store.read(lambda tx: tx.state())
    told = replace(before, bundle=(0, state, 9), bundle_at=world.clock() + 1_900_000)
    await world.store.write(lambda tx: tx.host_states.put([told]))
    assert (await olga.get(f"/v1/revocations/{made['id']}")).json["progress"] == {
        "hosts": 3,
        "told": 1,
        "slowest_s": 1.9,
        "waiting": ["web2"],
        "without_agent": ["db1"],
        "waiting_count": 1,
        "without_agent_count": 1,
    }


async def test_what_was_signed_past_the_service_is_revoked_when_it_is_found(world: World):
    """Somebody who talks to the signer by themselves gets a certificate, until the list is compared with the log."""
    alice = await world.enter("alice")
    certificate = await issued(alice)
    body = replace(certificate.body, serial=certificate.body.serial + 500)
    tbs = to_be_signed(body, bytes(range(32)))
    (signature,) = await world.signer.sign([SignRequest("default", tbs)])
    assert isinstance(signature, bytes)
    stolen = join(tbs, signature)
    assert not await is_revoked(world, stolen)
    state = await world.store.read(lambda tx: tx.state())
    assert await reconcile(world.outside) == 1
    assert await is_revoked(world, stolen)
    assert not await is_revoked(world, certificate)
    assert await world.store.read(lambda tx: tx.state()) > state
