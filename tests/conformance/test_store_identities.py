"""What every store keeps of identities at providers, their sign-ins, and those that wait for another device."""

from dataclasses import replace
from functools import partial

import pytest
from tests.conformance.stores import an_id, person
from tests.unit.ca.samples import NOW, public

from jitgate.adapters.db.store import Store
from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.flow.ports import Tx
from jitgate.identity.model import DeviceSignIn, Factor, LinkedIdentity, Person, SignIn
from jitgate.identity.tokens import token_hash

ISSUER = "https://idp.example.com"


def sign_in(who: Person, token: str, **more: object) -> SignIn:
    hashed = token_hash(Secret(token))
    plain = SignIn(an_id(), who.id, hashed, ((Factor.OIDC, NOW),), NOW, NOW + HOUR)
    return replace(plain, **more)  # type: ignore[arg-type]  # of several types


def by_hash(row: SignIn, tx: Tx) -> SignIn | None:
    return tx.sign_ins.by_token_hash(row.token_hash)


def of_subject(issuer: str, subject: str, tx: Tx) -> LinkedIdentity | None:
    return tx.identities.of_subject(issuer, subject)


def waiting(number: int, network: str = "192.0.2.7") -> DeviceSignIn:
    return DeviceSignIn(
        an_id(), "corp", public(f"k{number}"), "a@b", network, b"sealed", 5 * SECOND, NOW + SECOND, NOW + MINUTE
    )


async def test_what_a_provider_said_comes_back_with_the_sign_in(store: Store):
    ann = person("ann")
    by_token = sign_in(ann, "a", provider="corp", issuer=ISSUER, subject="u-1", groups=("dba", "ops"))
    by_directory = replace(sign_in(ann, "b"), provider="corp", issuer=ISSUER, subject="u-1", directory_name="ann")
    by_directory = replace(by_directory, token_ends_at=NOW + 5)
    plain = sign_in(ann, "c")

    def job(tx: Tx) -> None:
        tx.people.add(ann, None, "")
        for each in (by_token, by_directory, plain):
            tx.sign_ins.add(each)

    await store.write(job)
    for each in (by_token, by_directory, plain):
        assert await store.read(partial(by_hash, each)) == each
    assert await store.read(lambda tx: tx.people.credential(ann.id)) is None
    assert await store.read(lambda tx: tx.identities.of_person(ann.id)) == []
    assert await store.read(lambda tx: tx.sign_ins.in_directory(NOW)) == [by_directory]
    assert await store.read(lambda tx: tx.sign_ins.in_directory(NOW + HOUR)) == []


async def test_sign_ins_of_one_identity_end_alone(store: Store):
    ann, bob = person("ann"), person("bob")
    ends = {"provider": "corp", "issuer": ISSUER}
    theirs = [
        sign_in(ann, "a", **ends, subject="u-1"),
        sign_in(ann, "b", **ends, subject="u-2"),
        sign_in(ann, "c"),
        sign_in(bob, "d", **ends, subject="u-1"),
    ]

    def job(tx: Tx) -> int:
        for each in (ann, bob):
            tx.people.add(each, None, "")
        for row in theirs:
            tx.sign_ins.add(row)
        return tx.sign_ins.end_all_of(ann.id, NOW, issuer=ISSUER, subject="u-1")

    assert await store.write(job) == 1
    found = [await store.read(partial(by_hash, row)) for row in theirs]
    assert [row is not None and row.ended_at for row in found] == [NOW, None, None, None]


async def test_an_identity_has_one_owner_until_it_is_taken_away(store: Store):
    ann, bob = person("ann"), person("bob")
    hers = LinkedIdentity(an_id(), ann.id, ISSUER, "u-1", NOW)

    def job(tx: Tx) -> None:
        tx.people.add(ann, None, "")
        tx.people.add(bob, None, "")
        tx.identities.add(hers)

    await store.write(job)
    assert await store.read(lambda tx: tx.identities.of_subject(ISSUER, "u-1")) == hers
    for issuer, subject in ((ISSUER, "U-1"), (ISSUER + "/", "u-1"), (ISSUER, "u-1 ")):
        assert await store.read(partial(of_subject, issuer, subject)) is None
    his = replace(hers, id=an_id(), person_id=bob.id)
    with pytest.raises(Exception, match=r"(?i)unique"):
        await store.write(lambda tx: tx.identities.add(his))
    await store.write(lambda tx: tx.identities.remove(hers.id))
    await store.write(lambda tx: tx.identities.add(his))
    assert await store.read(lambda tx: tx.identities.of_person(bob.id)) == [his]


async def test_what_waits_is_counted_asked_in_turn_and_taken_once(store: Store):
    first, second = waiting(1), waiting(2, "198.51.100.0/24")

    def job(tx: Tx) -> None:
        tx.device_sign_ins.add(first)
        tx.device_sign_ins.add(second)

    await store.write(job)
    assert await store.read(lambda tx: tx.device_sign_ins.by_id(first.id)) == first
    counts = await store.read(
        lambda tx: (tx.device_sign_ins.count(), tx.device_sign_ins.count(network="198.51.100.0/24"))
    )
    assert counts == (2, 1)

    def ask(tx: Tx) -> list[bool]:
        times = (NOW, NOW + SECOND, NOW + SECOND, NOW + 6 * SECOND)
        return [tx.device_sign_ins.take_turn(first, at, first.interval) for at in times]

    assert await store.write(ask) == [False, True, False, True]
    await store.write(lambda tx: tx.device_sign_ins.slow_down(first.id, NOW, 10 * SECOND))
    found = await store.read(lambda tx: tx.device_sign_ins.by_id(first.id))
    assert found is not None
    assert (found.interval, found.next_at) == (10 * SECOND, NOW + 10 * SECOND)
    removed = await store.write(lambda tx: [tx.device_sign_ins.remove(first.id) for _ in range(2)])
    assert removed == [True, False]
    await store.write(lambda tx: tx.device_sign_ins.forget(second.expires_at))
    assert await store.read(lambda tx: tx.device_sign_ins.count()) == 1
    await store.write(lambda tx: tx.device_sign_ins.forget(second.expires_at + 1))
    assert await store.read(lambda tx: tx.device_sign_ins.count()) == 0


def test_a_sign_in_names_provider_issuer_and_subject_or_none_of_them():
    ann = person("ann")
    for wrong in ({"provider": "corp"}, {"issuer": ISSUER}, {"subject": "u"}, {"provider": "corp", "issuer": ISSUER}):
        with pytest.raises(BadInput, match="without issuer or subject"):
            sign_in(ann, "a", **wrong)
