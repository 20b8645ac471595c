"""The policy in force: applied whole, by command, and found again by its digest."""

from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.policy.bundle import PolicyBundle, load_text
from jitgate.policy.difference import Difference, difference

_COMPILED_MAX = 4  # the one in force, and those that requests in flight began with
_compiled: dict[str, PolicyBundle] = {}  # by digest: what a digest stands for never changes


@dataclass(frozen=True, slots=True)
class Applied:
    digest: str
    roles: int
    difference: Difference


def policy_in_force(tx: Tx) -> PolicyBundle | None:
    """The bundle in force, compiled once for each digest; None before the first `apply_policy`."""
    digest = tx.policies.digest()
    if digest is None:
        return None
    if digest not in _compiled:
        stored = tx.policies.current()
        if stored is None:
            return None
        bundle = load_text(stored[1])
        _keep(bundle)
        return bundle
    return _compiled[digest]


def _keep(bundle: PolicyBundle) -> None:
    while len(_compiled) >= _COMPILED_MAX:
        _compiled.pop(next(iter(_compiled)), None)
    _compiled[bundle.digest] = bundle


async def apply_policy(outside: Outside, bundle: PolicyBundle, actor: Actor) -> Applied:
    """Put a bundle that loaded in force, in place of the one before. The event names what came, went and changed."""
    now = outside.clock()
    _keep(bundle)  # before it is in force: who needs it then may be a brief job, and compiling takes long

    def job(tx: Tx) -> Applied:
        before = policy_in_force(tx)
        change = difference(before, bundle)
        tx.policies.add(outside.new_id(now), bundle.digest, bundle.text, now)
        tx.move_epoch()
        detail: list[tuple[str, str | int]] = [("digest", bundle.digest), ("roles", len(bundle.rules))]
        if before is not None:
            detail.append(("previous", before.digest))
        for key, names in (
            ("added", change.added),
            ("removed", change.removed),
            ("changed", change.changed),
            ("removed_deny", change.lost_denials),
            ("changed_deny", change.changed_denials),
        ):
            if names:
                detail.append((key, _names(names)))
        tx.log.append(Event(EventType.POLICY_APPLIED, "done", now, DEFAULT_REALM, actor, detail=tuple(detail)))
        return Applied(bundle.digest, len(bundle.rules), change)

    return await outside.store.write(job)


def _names(names: tuple[str, ...], limit: int = 2000) -> str:
    """As many names as an event's detail holds; the digest says the rest."""
    text = " ".join(names)
    return text if len(text) <= limit else f"{text[:limit].rpartition(' ')[0]} and more, {len(names)} in all"
