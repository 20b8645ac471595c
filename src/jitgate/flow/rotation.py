"""Replacing a CA key by a plan: `ca.rotation` says the steps, this takes them.

A step begins in one transaction, and only if nothing holds it up (`obstacles`), asked in that same transaction. What
was waived holds nothing up, and stands in the log. The emergency of a stolen key asks nobody: it revokes the old key
with all it signed, and uses the new one, at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import Authority, CaKind, Phase
from jitgate.ca.rotation import Rotation, Step
from jitgate.core.errors import BadInput, Conflict, NotFound
from jitgate.core.text import check_reason, shown
from jitgate.flow.authorities import (
    ROTATE,
    Known,
    authority_for,
    known_authorities,
    list_key,
    one_of,
    say_of,
)
from jitgate.flow.obstacles import HostKnows, Obstacle, hosts_that_know, obstacles
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.revocations import revoke_authority

NAMED = 20  # obstacles in an error; `status` shows all


@dataclass(frozen=True, slots=True)
class Progress:
    """A plan, its two keys, and what holds up its next step."""

    rotation: Rotation
    old: Authority
    new: Authority
    obstacles: tuple[Obstacle, ...]


@dataclass(frozen=True, slots=True)
class Outlook:
    """What a plan would have to do with: the key that signs, its backups, the hosts and what they know."""

    active: Authority
    listed: tuple[Authority, ...]
    hosts: tuple[HostKnows, ...]
    running: Progress | None


async def outlook(outside: Outside, realm: str, kind: CaKind) -> Outlook:
    """Changes nothing. Raises `Unreachable` where no key of that realm and kind signs."""

    def job(tx: Tx) -> Outlook:
        active = authority_for(tx, realm, kind)
        same = [each for each in tx.authorities.all() if (each.realm, each.kind) == (realm, kind)]
        listed = tuple(each for each in same if each.phase is Phase.LISTED)
        plan = _find(tx, realm, kind)
        running = _progress(tx, outside, plan) if plan else None
        return Outlook(active, listed, tuple(hosts_that_know(tx, realm)), running)

    return await outside.store.read(job)


async def start_rotation(
    outside: Outside,
    actor: Actor,
    realm: str,
    kind: CaKind,
    wanted: str,
    *,
    emergency: bool = False,
    reason: str = "",
) -> Progress:
    """Begin to replace the key that signs by the one in the file, or of the fingerprint, `wanted`.

    `emergency`: revoke the old one with all that it signed, and sign with the new one, in this very act. Raises
    `NotFound`, `BadInput`, `Conflict` while another plan of that realm and kind runs.
    """
    reason = check_reason(reason)
    new = _fit(one_of((await known_authorities(outside))[0], wanted), realm, kind, held=emergency)

    def job(tx: Tx) -> Progress:
        if plan := _find(tx, realm, kind):
            raise Conflict(f"a plan runs for it, and is at {plan.step}", f"{ROTATE} status; {ROTATE} abort ends it")
        now, old = outside.clock(), authority_for(tx, realm, kind)
        if old.key == new.key:
            raise BadInput("this key signs already", "name another one: jitgate ca ls")
        next_one = next((each for each in tx.authorities.all() if each.key == new.key), None)
        if next_one is None:
            next_one = list_key(tx, outside, actor, new.key, realm, kind, Phase.LISTED)
        _check_listed(next_one)
        step = Step.TRUST
        if emergency:
            step = Step.RETIRE
            revoke_authority(tx, outside, actor, old, reason=reason)
            _use(tx, outside, actor, next_one, old)
        tx.move_epoch()
        rotation_id = outside.new_id(now)
        rotation = Rotation(rotation_id, realm, kind, old.id, next_one.id, step, now, now, tx.trust(), emergency)
        tx.rotations.add(rotation)
        detail = (
            ("rotation", rotation.id),
            ("kind", kind.value),
            ("old", old.key.fingerprint),
            ("new", new.key.fingerprint),
            ("step", step.value),
            ("emergency", int(emergency)),
        )
        tx.log.append(Event(EventType.CA_ROTATION_STARTED, "done", now, realm, actor, reason=reason, detail=detail))
        return _progress(tx, outside, rotation)

    return await outside.store.write(job)


async def rotations(outside: Outside) -> list[Progress]:
    """The plans that run."""
    return await outside.store.read(lambda tx: [_progress(tx, outside, each) for each in tx.rotations.running()])


async def waive_hosts(
    outside: Outside, actor: Actor, realm: str, kind: CaKind, names: Sequence[str], reason: str = ""
) -> Progress:
    """These hosts hold up no step of the plan any more. Each is an entry of the log. `NotFound` for an unknown one."""
    reason = check_reason(reason)

    def job(tx: Tx) -> Progress:
        now, plan = outside.clock(), _running(tx, realm, kind)
        ids = set(plan.waived)
        for name in names:
            host = tx.hosts.by_name(realm, name)
            if host is None:
                raise NotFound(f"no host {shown(name)} in {realm}", "jitgate host ls")
            ids.add(host.id)
            tx.log.append(_event(EventType.CA_ROTATION_WAIVED, actor, plan, now, reason, target=f"host:{name}"))
        plan = replace(plan, waived=frozenset(ids))
        tx.rotations.change(plan)
        return _progress(tx, outside, plan)

    return await outside.store.write(job)


async def advance_rotation(outside: Outside, actor: Actor, realm: str, kind: CaKind, reason: str = "") -> Progress:
    """The plan's next step. `Conflict` (`rotation_held_up`) with what is in its way, or for a key that is gone."""
    reason = check_reason(reason)
    held = (await outside.signer.keys()).authorities

    def job(tx: Tx) -> Progress:
        plan = _running(tx, realm, kind)
        seen = _progress(tx, outside, plan)
        if seen.obstacles:
            what = "; ".join(each.words for each in seen.obstacles[:NAMED])
            hint = next((each.hint for each in seen.obstacles if each.hint), f"{ROTATE} status")
            raise Conflict(f"{plan.step} is not done: {what}", hint, code="rotation_held_up")
        if plan.next is Step.USE:
            _check_listed(seen.new)
            if not any(each.key == seen.new.key and not each.kept for each in held):
                raise Conflict("the signer does not hold the new key", "bring it into the folder of CA keys")
            if seen.old.phase is Phase.ACTIVE:
                tx.authorities.set_phase(seen.old.id, Phase.LISTED)
            _use(tx, outside, actor, seen.new, seen.old)
        elif plan.next is Step.RETIRE and seen.old.phase is not Phase.RETIRED:
            tx.authorities.set_phase(seen.old.id, Phase.RETIRED)
            say_of(tx, outside, actor, EventType.CA_KEY_RETIRED, seen.old)
        return _move(tx, outside, actor, plan, plan.next or plan.step, reason)

    return await outside.store.write(job)


async def abort_rotation(outside: Outside, actor: Actor, realm: str, kind: CaKind, reason: str = "") -> Progress:
    """Back to the old key. A new one that never signed is trusted no more; one that did stays trusted for that.

    `Conflict` once the old key is retired: what is retired does not come back.
    """
    reason = check_reason(reason)
    held = (await outside.signer.keys()).authorities

    def job(tx: Tx) -> Progress:
        plan = _running(tx, realm, kind)
        seen = _progress(tx, outside, plan)
        if plan.step is Step.RETIRE or (plan.step is Step.USE and seen.old.phase is Phase.RETIRED):
            raise Conflict("the old key is retired, and does not come back", f"go on: {ROTATE} advance")
        if plan.step is Step.USE:
            if not any(each.key == seen.old.key for each in held):
                raise Conflict("the signer does not hold the old key any more", "bring it back, or go on")
            tx.authorities.set_phase(seen.new.id, Phase.LISTED)
            _use(tx, outside, actor, seen.old, seen.new)
        elif seen.new.phase is Phase.LISTED and seen.new.listed_at >= plan.started_at:
            tx.authorities.set_phase(seen.new.id, Phase.RETIRED)
            say_of(tx, outside, actor, EventType.CA_KEY_RETIRED, seen.new)
        return _move(tx, outside, actor, plan, Step.ABORTED, reason)

    return await outside.store.write(job)


def _move(tx: Tx, outside: Outside, actor: Actor, plan: Rotation, step: Step, reason: str) -> Progress:
    now = outside.clock()
    tx.move_epoch()
    over = step in {Step.DONE, Step.ABORTED}
    moved = replace(plan, step=step, step_at=now, trust=tx.trust(), ended_at=now if over else None)
    tx.rotations.change(moved)
    if step is Step.ABORTED:
        tx.log.append(_event(EventType.CA_ROTATION_ABORTED, actor, plan, now, reason))
    else:
        tx.log.append(_event(EventType.CA_ROTATION_ADVANCED, actor, moved, now, reason))
    return _progress(tx, outside, moved)


def _use(tx: Tx, outside: Outside, actor: Actor, authority: Authority, before: Authority) -> None:
    tx.authorities.set_phase(authority.id, Phase.ACTIVE)
    say_of(tx, outside, actor, EventType.CA_KEY_USED, authority, ("previous", before.key.fingerprint))


def _progress(tx: Tx, outside: Outside, plan: Rotation) -> Progress:
    by_id = {each.id: each for each in tx.authorities.all()}
    old, new = by_id[plan.old_id], by_id[plan.new_id]
    found = obstacles(tx, plan, old, new, outside.clock(), node=outside.node)
    return Progress(plan, old, new, () if plan.ended_at is not None else tuple(found))


def _fit(known: Known, realm: str, kind: CaKind, *, held: bool) -> Known:
    if (known.realm, known.kind) != (realm, kind):
        raise BadInput(f"this is a {known.kind} key of {known.realm}", "each key is for one realm and kind")
    if held and (known.held is None or known.held.kept):
        raise Conflict("the signer does not hold this key", "bring its file into the folder of CA keys")
    return known


def _check_listed(authority: Authority) -> None:
    if authority.phase is Phase.RETIRED:
        raise Conflict("the new key was retired", f"{ROTATE} abort, and start with another one")


def _find(tx: Tx, realm: str, kind: CaKind) -> Rotation | None:
    return next((each for each in tx.rotations.running() if (each.realm, each.kind) == (realm, kind)), None)


def _running(tx: Tx, realm: str, kind: CaKind) -> Rotation:
    plan = _find(tx, realm, kind)
    if plan is None:
        raise NotFound(f"no plan replaces the {kind} CA key of {shown(realm)}", f"{ROTATE} start --kind {kind}")
    return plan


def _event(kind: EventType, actor: Actor, plan: Rotation, now: int, reason: str, *, target: str = "") -> Event:
    detail = (("rotation", plan.id), ("kind", plan.kind.value), ("step", plan.step.value))
    return Event(kind, "done", now, plan.realm, actor, target=target, reason=reason, detail=detail)
