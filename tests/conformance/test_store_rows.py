"""What every store keeps: the log, people, keys, sign-ins, hosts, policy, grants, certificates, serials."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from tests.conformance.stores import (
    Held,
    Opened,
    add,
    add_checkpoint,
    add_grant,
    add_sign_in,
    an_id,
    append,
    apply,
    authority,
    host,
    key,
    log,
    person,
    said,
    steps,
    use_step,
)
from tests.unit.ca.samples import GRANT, NOW, public

from jitgate.adapters.db.store import Store
from jitgate.audit.checkpoint import parse_body
from jitgate.audit.events import Actor, Event, EventType
from jitgate.audit.query import Query
from jitgate.audit.tree import EMPTY
from jitgate.ca.realms import CaKind, Phase
from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.core.errors import NotFound
from jitgate.flow.ports import Tx
from jitgate.identity.model import Factor, Person, SignIn
from jitgate.identity.throttle import Throttle
from jitgate.ssh.cert import CertificateBody, CertType

BROKEN = r"(?i)(unique|foreign key) constraint"

# --- the log ---


async def test_the_logs_edge_moves_with_its_entries(opened: Opened):
    store = opened.store
    assert parse_body(await store.read(lambda tx: tx.log.checkpoint_body())).root == EMPTY.root()
    roots = []
    for at in range(5):
        await store.write(steps(*(append(said(f"{at}-{each}")) for each in range(at))))
        roots.append(parse_body(await store.read(lambda tx: tx.log.checkpoint_body())))
    assert [body.size for body in roots] == [0, 1, 3, 6, 10]
    assert len({body.root for body in roots}) == 5
    assert roots[-1] == parse_body(await opened.again().read(lambda tx: tx.log.checkpoint_body()))


async def test_many_writers_at_once_make_one_log(store: Store):
    async def write(name: int) -> None:
        for at in range(20):
            await store.write(append(said(f"{name} {at}")))

    await asyncio.gather(*(write(name) for name in range(20)))
    texts = await log(store)
    assert len(texts) == 400
    for name in range(20):
        assert [text for text in texts if text.startswith(f"{name} ")] == [f"{name} {at}" for at in range(20)]


async def test_checkpoints_are_kept_once_and_the_largest_is_the_newest(store: Store):
    assert await store.read(lambda tx: tx.log.latest_checkpoint()) is None
    for size, text in ((5, "five"), (9, "nine"), (9, "another nine"), (7, "seven")):
        await store.write(partial(add_checkpoint, size, text))
    assert await store.read(lambda tx: tx.log.latest_checkpoint()) == "nine"


async def test_serials_that_the_log_names_are_found_in_the_same_group_too(store: Store):
    user, other = public("user").fingerprint, public("host").fingerprint
    await store.write(append(said("", serial=2**63 - 1)))

    def job(tx: Tx) -> set[tuple[str, int]]:
        tx.log.append(said("", serial=7))
        return tx.log.logged([(user, 7), (user, 8), (user, 2**63 - 1), (other, 7)])

    assert await store.write(job) == {(user, 7), (user, 2**63 - 1)}
    asked = [(user, serial) for serial in (7, 8)] + [(user, serial) for serial in range(10_000, 15_000)]
    assert await store.read(lambda tx: tx.log.logged(asked)) == {(user, 7)}
    assert await store.read(lambda tx: tx.log.logged([])) == set()


async def test_searching_finds_what_holds_and_nothing_else(store: Store):
    ann, ben, grant = an_id(), an_id(), an_id()

    def refused(who: str, name: str, target: str, reason: str) -> Event:
        actor = Actor("person", who, name)
        more: dict[str, Any] = {"target": target, "reason": reason, "detail": (("code", "no"),), "grant": grant}
        return Event(EventType.GRANT_REFUSED, "refused", NOW, "default", actor, **more)

    def job(tx: Tx) -> None:
        tx.log.append(refused(ann, "ann", "host:web1", "100% of it"))
        tx.log.append(refused(ben, "ben", "root@host:web1", "under_score"))
        tx.log.append(refused(ben, "ben", "host:web10", "Ärger"))
        disabled = Event(
            EventType.PERSON_DISABLED, "done", NOW, "default", Actor("service"), subject=ann, subject_name="x"
        )
        tx.log.append(disabled)
        tx.log.append(said("", serial=99))

    await store.write(job)

    async def found(**query: Any) -> list[int]:
        return [columns.index for columns, _, _ in await store.read(lambda tx: tx.log.search(Query(**query)))]

    assert await found() == [0, 1, 2, 3, 4]
    assert await found(limit=2) == [3, 4]  # the newest, in the order of the log
    assert await found(after=1, limit=2) == [2, 3]
    assert await found(after=4) == []
    assert await found(person=ann) == [0, 3]  # acted, and was acted on
    assert await found(host="web1") == [0, 1]
    assert await found(host="web10") == [2]
    assert await found(grant=grant, person=ben) == [1, 2]
    assert await found(serial=99) == [4]
    assert await found(outcome="refused") == [0, 1, 2]
    assert await found(types=(EventType.PERSON_DISABLED, EventType.SERVICE_RESTORED)) == [3]
    assert await found(q="%") == [0]
    assert await found(q="_score") == [1]
    assert await found(q="UNDER_") == [1]
    assert await found(q="web1") == [0, 1, 2]
    assert await found(q="' OR 1=1 --") == []


# --- people, keys, sign-ins ---


async def test_a_name_a_key_and_a_token_have_one_owner(store: Store):
    ann, ben = person("ann", "ops", "dba"), person("ben")
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben), lambda tx: tx.keys.add(key(ann))))
    sign_in = SignIn(an_id(), ann.id, b"t" * 32, ((Factor.TOTP, NOW),), NOW, NOW + HOUR)
    await store.write(lambda tx: tx.sign_ins.add(sign_in))
    for job in (
        lambda tx: add(tx, person("ann")),
        lambda tx: tx.keys.add(key(ben)),
        lambda tx: tx.sign_ins.add(replace(sign_in, id=an_id(), person_id=ben.id)),
        lambda tx: tx.keys.add(replace(key(ann, "other"), person_id=an_id())),  # of nobody
    ):
        with pytest.raises(Exception, match=BROKEN):
            await store.write(job)
    assert await store.read(lambda tx: tx.people.by_name("ann")) == replace(ann, groups=("dba", "ops"))
    assert await store.read(lambda tx: tx.people.by_id(ben.id)) == ben
    assert await store.read(lambda tx: tx.people.by_name("ANN")) is None
    assert [each.name for each in await store.read(lambda tx: tx.people.all())] == ["ann", "ben"]
    assert await store.read(lambda tx: tx.sign_ins.by_token_hash(b"t" * 32)) == sign_in
    assert await store.read(lambda tx: tx.sign_ins.by_token_hash(b"x" * 32)) is None


async def test_a_key_that_was_removed_may_come_back_to_anybody(store: Store):
    ann, ben = person("ann"), person("ben")
    first = key(ann)
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben), lambda tx: tx.keys.add(first)))
    assert await store.read(lambda tx: tx.keys.current(first.key)) == first
    await store.write(lambda tx: tx.keys.remove(first.id, NOW))
    assert await store.read(lambda tx: tx.keys.current(first.key)) is None
    assert await store.read(lambda tx: tx.keys.of_person(ann.id)) == []
    second = key(ben)
    await store.write(lambda tx: tx.keys.add(second))
    assert await store.read(lambda tx: tx.keys.current(first.key)) == second


async def test_one_of_many_takes_a_step_and_none_takes_an_earlier_one(store: Store):
    ann = person("ann")
    await store.write(lambda tx: add(tx, ann, step=5))
    taken = await asyncio.gather(*(store.write(lambda tx: tx.people.use_totp_step(ann.id, 7)) for _ in range(20)))
    assert taken.count(True) == 1
    for step, expected in ((7, False), (6, False), (5, False), (8, True), (7, False)):
        assert await store.write(partial(use_step, ann, step)) is expected
    assert not await store.write(lambda tx: tx.people.use_totp_step(an_id(), 9))


async def test_disabling_and_ending_are_kept_and_end_only_once(store: Store):
    ann, ben = person("ann"), person("ben")
    rows = [
        SignIn(an_id(), who.id, bytes([at]) * 32, ((Factor.TOTP, NOW),), NOW, NOW + HOUR)
        for at, who in enumerate((ann, ann, ben))
    ]
    await store.write(steps(lambda tx: add(tx, ann), lambda tx: add(tx, ben)))
    for row in rows:
        await store.write(partial(add_sign_in, row))
    await store.write(lambda tx: tx.sign_ins.end(rows[0].id, NOW + 1))
    await store.write(
        steps(lambda tx: tx.people.set_disabled(ann.id, NOW + 2), lambda tx: tx.sign_ins.end_all_of(ann.id, NOW + 2))
    )
    hashes = [row.token_hash for row in rows]
    ended = await store.read(lambda tx: [tx.sign_ins.by_token_hash(each) for each in hashes])
    assert [each.ended_at for each in ended if each] == [NOW + 1, NOW + 2, None]
    found = await store.read(lambda tx: tx.people.by_id(ann.id))
    assert found is not None
    assert found.disabled_at == NOW + 2
    await store.write(lambda tx: tx.people.set_disabled(ann.id, None))
    assert await store.read(lambda tx: tx.people.by_id(ann.id)) == ann


async def test_a_proof_is_used_once_until_its_time_is_over(store: Store):
    uses = await asyncio.gather(
        *(store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW, NOW + MINUTE)) for _ in range(10))
    )
    assert uses.count(True) == 1
    assert await store.write(lambda tx: tx.keys.use_proof(b"e" * 32, NOW, NOW + MINUTE))
    assert not await store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW + MINUTE, NOW + 2 * MINUTE))
    assert await store.write(lambda tx: tx.keys.use_proof(b"d" * 32, NOW + MINUTE + 1, NOW + 2 * MINUTE))


async def test_throttles_are_kept_replaced_and_forgotten(store: Store):
    def put(at: int) -> Callable[[Tx], None]:
        return lambda tx: tx.throttles.put("account", f"s{at}", Throttle(at, NOW + at))

    for at in range(5):
        await store.write(put(at))
    await store.write(lambda tx: tx.throttles.put("address", "s1", Throttle(9, NOW)))
    await store.write(lambda tx: tx.throttles.put("account", "s1", Throttle(7, NOW + 3)))
    await store.write(lambda tx: tx.throttles.put("account", "s2", None))
    assert await store.read(lambda tx: tx.throttles.get("account", "s1")) == Throttle(7, NOW + 3)
    assert await store.read(lambda tx: tx.throttles.get("account", "s2")) is None
    await store.write(lambda tx: tx.throttles.forget(NOW + 3))
    left = await store.read(lambda tx: [tx.throttles.get("account", f"s{at}") for at in range(5)])
    assert left == [None, Throttle(7, NOW + 3), None, Throttle(3, NOW + 3), Throttle(4, NOW + 4)]
    assert await store.read(lambda tx: tx.throttles.get("address", "s1")) is None


# --- hosts, policy, grants, certificates, serials ---


async def test_a_host_name_is_taken_once_at_a_time(store: Store):
    first = host("web1")
    await store.write(lambda tx: tx.hosts.add(first))
    with pytest.raises(Exception, match=BROKEN):
        await store.write(lambda tx: tx.hosts.add(host("web1")))
    await store.write(lambda tx: tx.hosts.add(host("web0")))
    assert [each.name for each in await store.read(lambda tx: tx.hosts.all())] == ["web0", "web1"]
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) == first
    assert await store.read(lambda tx: tx.hosts.by_name("other", "web1")) is None
    await store.write(lambda tx: tx.hosts.remove(first.id, NOW))
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) is None
    again = host("web1", address="web1.internal", port=2222, labels={})
    await store.write(lambda tx: tx.hosts.add(again))
    assert await store.read(lambda tx: tx.hosts.by_name("default", "web1")) == again


async def test_the_policy_in_force_is_the_one_applied_last_whatever_the_clock_says(store: Store):
    assert await store.read(lambda tx: (tx.policies.digest(), tx.policies.current())) == (None, None)
    for digest, at in (("a", NOW), ("b", NOW - HOUR), ("c", NOW - HOUR), ("a", NOW - 2 * HOUR)):
        await store.write(partial(apply, digest, at))
        assert await store.read(lambda tx: tx.policies.digest()) == digest * 64
        assert await store.read(lambda tx: tx.policies.current()) == (digest * 64, f"text {digest}")


async def test_grants_come_back_as_they_were(store: Store):
    ann, ben = person("ann"), person("ben")
    await store.write(lambda tx: (add(tx, ann), add(tx, ben)))

    def grant(who: Person, **changes: Any) -> Any:
        holder = replace(GRANT.holder, person_id=who.id, name=who.name)
        return replace(GRANT, id=an_id(), holder=holder, targets=tuple(sorted(GRANT.targets)), **changes)

    first = grant(ann, ends_at=NOW + HOUR)
    second = grant(ann, opened_at=NOW + 1, ends_at=NOW + MINUTE, options=(), metadata=(), reason="Ärger")
    other = grant(ben, on_expiry="keep", max_session_s=3600, ticket="T-1")
    await store.write(steps(*(partial(add_grant, each) for each in (first, second, other))))
    assert await store.read(lambda tx: [tx.grants.by_id(each.id) for each in (first, second, other)]) == [
        first,
        second,
        other,
    ]
    assert await store.read(lambda tx: tx.grants.active(NOW, person_id=ann.id)) == [second, first]
    assert await store.read(lambda tx: tx.grants.active(NOW + MINUTE, person_id=ann.id)) == [first]
    assert len(await store.read(lambda tx: tx.grants.active(NOW))) == 3
    await store.write(lambda tx: tx.grants.end(first.id, NOW + 5, "done"))
    ended = replace(first, ended_at=NOW + 5, end_reason="done")
    assert await store.read(lambda tx: tx.grants.by_id(first.id)) == ended
    assert await store.read(lambda tx: tx.grants.active(NOW + MINUTE, person_id=ann.id)) == []
    assert await store.read(lambda tx: tx.grants.latest(10, person_id=ann.id)) == [second, ended]
    assert await store.read(lambda tx: tx.grants.latest(1)) == [other]
    assert await store.read(lambda tx: tx.grants.by_id(an_id())) is None
    with pytest.raises(Exception, match=BROKEN):
        await store.write(lambda tx: tx.grants.add(first))


async def test_a_serial_is_issued_once_under_its_authority(store: Store):
    ann, user, hosts = person("ann"), authority(), authority(CaKind.HOST)
    grant = replace(GRANT, holder=replace(GRANT.holder, person_id=ann.id), id=an_id())

    def body(serial: int, seconds: int) -> CertificateBody:
        times = {"valid_after": NOW // SECOND, "valid_before": NOW // SECOND + seconds}
        more: dict[str, Any] = {"critical_options": (), "extensions": (), "ca": user.key} | times
        return CertificateBody(CertType.USER, public("laptop"), serial, "jitgate x", ("ubuntu@host:web1",), **more)

    def job(tx: Tx) -> None:
        add(tx, ann)
        tx.grants.add(grant)
        for each in (user, hosts):
            tx.authorities.add(each, NOW, 1)
        for serial in (1, 2**63 - 1):
            tx.certificates.add(body(serial, 60 if serial == 1 else 120), user, NOW + serial % 9, grant=grant)
        tx.certificates.add(body(1, 60), hosts, NOW)

    await store.write(job)
    with pytest.raises(Exception, match=BROKEN):
        await store.write(lambda tx: tx.certificates.add(body(1, 60), user, NOW, grant=grant))
    both = [(1, NOW + MINUTE), (2**63 - 1, NOW + 2 * MINUTE)]
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW)) == both
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW + MINUTE)) == both[1:]
    assert await store.read(lambda tx: tx.certificates.of_grant(grant.id, NOW + 2 * MINUTE)) == []


async def test_an_authority_goes_from_phase_to_phase(store: Store):
    one, other = authority(), authority()
    await store.write(steps(lambda tx: tx.authorities.add(one, NOW, 1), lambda tx: tx.authorities.add(other, NOW, 1)))
    await store.write(lambda tx: tx.authorities.set_phase(one.id, Phase.RETIRED))
    found = await store.read(lambda tx: tx.authorities.all())
    assert [(each.phase, each.listed_at) for each in found] == [(Phase.RETIRED, NOW), (Phase.ACTIVE, NOW)]


async def test_a_hosts_newest_certificate_says_when_it_was_told_last(store: Store):
    hosts, web, never = authority(CaKind.HOST), host("web1"), host("web2")
    ends: dict[str, Any] = {"valid_after": NOW // SECOND, "valid_before": NOW // SECOND + 60}
    more: dict[str, Any] = {"critical_options": (), "extensions": (), "ca": hosts.key} | ends

    def job(tx: Tx) -> None:
        tx.authorities.add(hosts, NOW, 1)
        for each in (web, never):
            tx.hosts.add(each)
        for serial, at in ((1, NOW), (2, NOW + MINUTE), (3, NOW + SECOND)):
            body = CertificateBody(CertType.HOST, web.key, serial, "jitgate host=web1", ("web1",), **more)
            tx.certificates.add(body, hosts, at, host=web)

    await store.write(job)
    assert await store.read(lambda tx: tx.certificates.hosts_certified()) == {web.id: NOW + MINUTE}


async def test_blocks_of_serials_never_overlap(opened: Opened):
    store, one, other = opened.store, authority(), authority(CaKind.HOST)
    await store.write(
        steps(lambda tx: tx.authorities.add(one, NOW, 1000), lambda tx: tx.authorities.add(other, NOW, 5))
    )
    assert await store.read(lambda tx: tx.authorities.all()) == [one, other]
    firsts = await asyncio.gather(*(store.write(lambda tx: tx.authorities.take_serials(one.id, 10)) for _ in range(50)))
    assert sorted(firsts) == list(range(1000, 1500, 10))
    assert await store.write(lambda tx: tx.authorities.take_serials(other.id, 3)) == 5

    def fail(tx: Tx) -> None:
        tx.authorities.take_serials(one.id, 10)
        raise NotFound("changed my mind")

    with pytest.raises(NotFound):
        await store.write(fail)
    assert await store.write(lambda tx: tx.authorities.take_serials(one.id, 1)) == 1500
    store.close()
    assert await opened.again().write(lambda tx: tx.authorities.take_serials(one.id, 1)) == 1501


async def test_the_epoch_moves_and_comes_back(opened: Opened):
    store = opened.store

    def move(tx: Tx) -> int:
        tx.move_epoch()
        return tx.epoch()

    epochs = [await store.write(move) for _ in range(3)]
    assert all(later == earlier + 1 for earlier, later in pairwise(epochs))

    def fail(tx: Tx) -> None:
        tx.move_epoch()
        raise NotFound("no")

    async with Held(store):
        lost = asyncio.ensure_future(store.write(fail))
        seen = asyncio.ensure_future(store.write(lambda tx: tx.epoch()))
        await asyncio.sleep(0)
    with pytest.raises(NotFound):
        await lost
    assert await seen == await store.read(lambda tx: tx.epoch()) == epochs[-1]
    store.close()
    assert await opened.again().read(lambda tx: tx.epoch()) == epochs[-1]


async def test_values_are_kept_by_name(store: Store):
    assert await store.read(lambda tx: tx.value("nothing")) is None
    await store.write(steps(*(lambda tx, n=n, v=v: tx.set_value(n, v) for n, v in ("a1", "b2", "a3"))))
    assert await store.read(lambda tx: (tx.value("a"), tx.value("b"), tx.value("epoch"))) == ("3", "2", "0")
