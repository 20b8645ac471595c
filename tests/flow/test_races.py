"""What is taken away while a certificate is being made: nothing that began before it is handed out after it."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from tests.client import Answer
from tests.world import OPERATOR, ROLES, Visitor, World

from jitgate.api import access
from jitgate.core.clock import HOUR, MINUTE
from jitgate.core.errors import Unreachable
from jitgate.flow import caller, certificates
from jitgate.flow.audit import reconcile
from jitgate.flow.hosts import add_host, remove_host
from jitgate.flow.people import disable_person, enable_person
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519

pytestmark = pytest.mark.databases

Done = Coroutine[Any, Any, object]
Act = Callable[[World, Visitor], Done]


async def disabled(world: World, _alice: Visitor) -> object:
    return await disable_person(world.outside, OPERATOR, "alice")


async def grant_ended(_world: World, alice: Visitor) -> object:
    return await alice.post(f"/v1/grants/{alice.granted}/end")


async def grant_ended_by_an_admin(world: World, alice: Visitor) -> object:
    return await (await world.enter("olga")).post(f"/v1/grants/{alice.granted}/end")


async def key_removed(_world: World, alice: Visitor) -> object:
    (key,) = (await alice.get("/v1/keys")).json["keys"]
    return await alice.delete(f"/v1/keys/{key['id']}")


async def signed_out(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/sign-out")


async def role_removed(world: World, _alice: Visitor) -> object:
    return await world.apply(ROLES.replace(b"role: web", b"role: other"))


async def denied(world: World, _alice: Visitor) -> object:
    deny = b"role: never\neffect: deny\nwho: {users: [alice]}\nwhat: {hosts: ['*']}\n"
    return await world.apply(ROLES, deny)


async def host_removed(world: World, _alice: Visitor) -> object:
    return await remove_host(world.outside, OPERATOR, "web1")


async def grant_run_out(world: World, _alice: Visitor) -> object:
    world.clock.advance(HOUR)
    return await disable_person(world.outside, OPERATOR, "bob")  # anything that makes it decide again


async def person_revoked(world: World, _alice: Visitor) -> object:
    olga = await world.enter("olga")
    return await olga.post("/v1/revocations", {"what": "person", "subject": "alice"})


async def key_revoked(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/revocations", {"what": "key", "subject": alice.signer.key.public.fingerprint})


async def grant_revoked(_world: World, alice: Visitor) -> object:
    return await alice.post("/v1/revocations", {"what": "grant", "subject": alice.granted})


TAKEN: dict[str, tuple[Act, int, str]] = {
    "person revoked": (person_revoked, 401, "not_signed_in"),
    "key revoked": (key_revoked, 403, "key_not_registered"),
    "grant revoked": (grant_revoked, 409, "conflict"),
    "person disabled": (disabled, 401, "not_signed_in"),
    "grant ended": (grant_ended, 409, "conflict"),
    "grant ended by an admin": (grant_ended_by_an_admin, 409, "conflict"),
    "key removed": (key_removed, 403, "key_not_registered"),
    "signed out": (signed_out, 401, "not_signed_in"),
    "role removed": (role_removed, 403, "no_role"),
    "denied by a new rule": (denied, 403, "denied_by_rule"),
    "host removed": (host_removed, 404, "not_found"),
    "grant run out": (grant_run_out, 409, "conflict"),
}


@pytest.mark.parametrize(("act", "status", "code"), TAKEN.values(), ids=TAKEN)
async def test_what_is_taken_away_while_the_signer_works_is_not_released(
    world: World, act: Act, status: int, code: str
):
    alice = await world.enter("alice")
    await alice.grant()

    async def take_away() -> None:
        answer = await act(world, alice)
        assert not isinstance(answer, Answer) or answer.status < 300, answer

    world.signer.hook = take_away
    before = await world.size()
    answer = await alice.certificate()
    assert (answer.status, answer.code) == (status, code)
    assert "certificate" not in answer.json
    events = await world.events("certificate", after=before)
    assert [event["type"] for event in events] == ["certificate.unreleased", "certificate.refused"]
    burnt, refused = events
    assert (burnt["key_id"], refused["detail"]["code"]) == (f"jitgate grant={alice.granted} person=alice", code)
    assert not await world.store.read(lambda tx: tx.certificates.of_grant(alice.granted, world.clock()))
    assert await signed_and_logged_agree(world)


async def signed_and_logged_agree(world: World) -> bool:
    """Each certificate of the signer's list is in the log, once."""
    listed = [(str(entry.serial), entry.tbs_sha256) for entry in (await world.signer.signed()).entries]
    logged = [
        (event["serial"], event["detail"]["digest"]) for event in await world.events("certificate") if event["serial"]
    ]
    return sorted(listed) == sorted(logged)


async def test_what_others_lose_does_not_hold_it_up(world: World):
    """Somebody who opens and ends grants all day must not keep everybody else's certificates back."""
    alice, bob = await world.enter("alice"), await world.enter("bob")
    await alice.grant()

    async def elsewhere() -> None:
        world.signer.hook = elsewhere  # however often it is tried
        await bob.grant(minutes=5)
        await bob.post(f"/v1/grants/{bob.granted}/end")
        await disable_person(world.outside, OPERATOR, "carol")
        await enable_person(world.outside, OPERATOR, "carol")

    world.signer.hook = elsewhere
    before = await world.size()
    answer = await alice.certificate()
    assert answer.status == 201, answer
    (issued,) = await world.events("certificate", after=before)
    assert (issued["type"], issued["serial"]) == ("certificate.issued", answer.json["serial"])
    assert await signed_and_logged_agree(world)


async def back_again(world: World, alice: Visitor) -> object:
    await disabled(world, alice)
    return await enable_person(world.outside, OPERATOR, "alice")


async def grant_of_the_same_again(world: World, alice: Visitor) -> object:
    ended = alice.granted
    await grant_ended(world, alice)
    await alice.grant()
    alice.granted = ended
    return None


async def host_of_the_same_name(world: World, _alice: Visitor) -> object:
    await remove_host(world.outside, OPERATOR, "web1")
    line = generate_ed25519().public.line()
    return await add_host(
        world.outside, OPERATOR, name="web1", address="web1", port=22, logins=["root"], labels={}, host_key_line=line
    )


@pytest.mark.parametrize("act", [back_again, grant_of_the_same_again, host_of_the_same_name])
async def test_what_was_given_again_does_not_make_up_for_what_was_taken(world: World, act: Act):
    alice = await world.enter("alice")
    await alice.grant()

    async def take_and_give() -> None:
        await act(world, alice)

    world.signer.hook = take_and_give
    before = await world.size()
    assert (await alice.certificate()).status >= 400
    events = [
        event for event in await world.events("certificate", after=before) if event["detail"].get("kind") != "host"
    ]
    assert [event["type"] for event in events] == ["certificate.unreleased", "certificate.refused"]
    assert await signed_and_logged_agree(world)


async def test_it_gives_up_when_too_much_changes(world: World):
    alice = await world.enter("alice")
    await alice.grant()
    count = 0

    async def change() -> None:
        nonlocal count
        count += 1
        await world.apply(ROLES.replace(b"certificate: 15m", b"certificate: %dm" % count))
        world.signer.hook = change

    world.signer.hook = change
    answer = await alice.certificate()
    assert (answer.status, answer.code) == (503, "unreachable")
    assert count == certificates.ATTEMPTS
    assert len(await world.events("certificate.unreleased")) == count
    assert await signed_and_logged_agree(world)


async def test_a_narrower_role_in_between_gives_the_narrower_certificate(world: World):
    alice = await world.enter("alice")
    await alice.grant()

    async def narrow() -> None:
        await world.apply(
            ROLES.replace(b"certificate: 15m", b"certificate: 2m").replace(b"extensions: [permit-pty]", b"")
        )

    world.signer.hook = narrow
    answer = await alice.certificate()
    assert answer.status == 201
    body = parse_certificate_line(answer.json["certificate"]).body
    assert body.extensions == ()
    assert body.valid_before == (world.clock() + 2 * MINUTE) // 1_000_000


async def test_of_many_at_once_none_that_is_out_is_missing_from_the_log(world: World):
    """Twenty callers while the person is disabled and enabled again: every certificate handed out is logged as issued,
    every other as burnt."""
    visitors = [await world.enter("alice") for _ in range(20)]
    for visitor in visitors:
        await visitor.grant()

    async def come_and_go() -> None:
        for _ in range(3):
            await disable_person(world.outside, OPERATOR, "bob")
            await asyncio.sleep(0.01)
            await enable_person(world.outside, OPERATOR, "bob")
        await disable_person(world.outside, OPERATOR, "alice")

    answers, _ = await asyncio.gather(
        asyncio.gather(*(v.certificate() for v in visitors for _ in range(3))), come_and_go()
    )
    out = {answer.json["serial"] for answer in answers if answer.status == 201}
    issued = {event["serial"] for event in await world.events("certificate.issued") if event["grant"]}
    burnt = {event["serial"] for event in await world.events("certificate.unreleased")}
    assert out == issued
    assert not out & burnt
    assert await signed_and_logged_agree(world)
    events = await world.events()
    gone = next(
        event["index"] for event in events if event["type"] == "person.disabled" and event["subject"]["name"] == "alice"
    )
    assert not [event for event in events if event["index"] > gone and event["type"] == "certificate.issued"]


# --- acts other than issuing, whose caller loses their right in between ---


@pytest.fixture
def slow_proof(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Done]], None]:
    """`slow_proof(act)`: once the next request's proof was checked, `act` comes first."""
    checked = caller.prove

    def arm(act: Callable[[], Done]) -> None:
        async def prove(*given: Any) -> Any:
            proved = await checked(*given)
            monkeypatch.setattr(access, "prove", checked)
            await act()
            return proved

        monkeypatch.setattr(access, "prove", prove)

    return arm


LOST = {"person disabled": disabled, "key removed": key_removed, "signed out": signed_out}


@pytest.mark.parametrize("act", LOST.values(), ids=LOST)
async def test_no_grant_opens_for_who_lost_the_right_to_ask(world: World, slow_proof: Any, act: Act):
    alice = await world.enter("alice")
    slow_proof(lambda: act(world, alice))
    answer = await alice.post("/v1/grants", {"host": "web1"})
    assert answer.status in (401, 403), answer
    assert not await world.events("grant.opened")


@pytest.mark.parametrize("act", LOST.values(), ids=LOST)
async def test_no_key_is_registered_for_who_lost_the_right(world: World, slow_proof: Any, act: Act):
    alice = await world.enter("alice")
    new = generate_ed25519()
    slow_proof(lambda: act(world, alice))
    answer = await alice.post("/v1/keys", {"key": new.public.line("new")}, new_key=new)
    assert answer.status in (401, 403), answer
    assert await world.store.read(lambda tx: tx.keys.current(new.public)) is None


@pytest.mark.parametrize("act", LOST.values(), ids=LOST)
async def test_no_grant_of_others_is_ended_by_who_lost_the_right(world: World, slow_proof: Any, act: Act):
    alice, olga = await world.enter("alice"), await world.enter("olga")
    await alice.grant()
    slow_proof(lambda: disable_person(world.outside, OPERATOR, "olga") if act is disabled else act(world, olga))
    answer = await olga.post(f"/v1/grants/{alice.granted}/end")
    assert answer.status in (401, 403), answer
    assert not await world.events("grant.ended")


@pytest.mark.parametrize("act", LOST.values(), ids=LOST)
async def test_no_key_is_removed_by_who_lost_the_right(world: World, slow_proof: Any, act: Act):
    alice = await world.enter("alice")
    other = await world.enter("alice")
    (mine,) = [
        key
        for key in (await alice.get("/v1/keys")).json["keys"]
        if key["fingerprint"] == other.signer.key.public.fingerprint
    ]

    async def lose() -> None:
        if act is key_removed:
            keys = (await alice.get("/v1/keys")).json["keys"]
            (proving,) = [key for key in keys if key["fingerprint"] == alice.signer.key.public.fingerprint]
            await other.delete(f"/v1/keys/{proving['id']}")
        else:
            await act(world, alice)

    slow_proof(lose)
    answer = await alice.delete(f"/v1/keys/{mine['id']}")
    assert answer.status in (401, 403), answer
    assert await world.store.read(lambda tx: tx.keys.current(other.signer.key.public)) is not None


# --- the signer goes away ---


async def test_a_serial_that_the_signer_does_not_take_again_is_replaced(world: World):
    """A signer that was killed knows only the highest serial it signed: lower ones that we still hold are refused."""
    alice = await world.enter("alice")
    await alice.grant()
    first = int((await alice.certificate()).json["serial"])
    ca = (await world.signer.keys()).authorities[0].key
    held = next(each for each in world.signer.desk._held.values() if each.key.public == ca)
    held.floor = first + 1  # as if one more had been signed by the child that died
    answer = await alice.certificate()
    assert answer.status == 201, answer
    assert int(answer.json["serial"]) == first + 2
    assert not await world.events("certificate.refused")


async def test_a_signer_that_is_gone_is_said_and_recorded(world: World):
    alice = await world.enter("alice")
    await alice.grant()

    async def die() -> None:
        raise Unreachable("the signer ended before it answered", "try again; nothing was issued")

    world.signer.hook = die
    answer = await alice.certificate()
    assert (answer.status, answer.code) == (503, "unreachable")
    (refused,) = await world.events("certificate.refused")
    assert refused["detail"]["code"] == "unreachable"


async def test_what_was_signed_and_lost_is_found_while_the_service_runs(world: World):
    """The signer listed it and died, or the caller was cancelled: a later look at the list records it, once."""
    alice = await world.enter("alice")
    await alice.grant()
    await alice.certificate()

    async def die() -> None:
        raise Unreachable("the signer ended before it answered", "try again; nothing was issued")

    world.signer.hook = die
    assert (await alice.certificate()).status == 503
    assert not await signed_and_logged_agree(world)
    assert await reconcile(world.outside, settled=MINUTE) == 0  # it may be on its way yet
    world.clock.advance(2 * MINUTE)
    assert (await alice.certificate()).status == 201
    assert await reconcile(world.outside, settled=MINUTE) == 1
    assert await reconcile(world.outside, settled=MINUTE) == 0
    assert len(await world.events("certificate.unreleased")) == 1
    assert await signed_and_logged_agree(world)


async def test_what_was_given_up_for_lost_is_never_released(world: World):
    """A commit that comes after the list was compared: its serial was recorded as burnt, so it stays burnt."""
    alice = await world.enter("alice")
    await alice.grant()

    async def wait_long() -> None:
        world.clock.advance(2 * MINUTE)
        assert await reconcile(world.outside, settled=MINUTE) == 1

    world.signer.hook = wait_long
    answer = await alice.certificate()
    assert answer.status == 201
    (burnt,) = await world.events("certificate.unreleased")
    assert burnt["serial"] != answer.json["serial"]
    assert await signed_and_logged_agree(world)
