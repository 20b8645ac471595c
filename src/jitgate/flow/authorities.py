"""The authorities of a realm: a key that the signer holds counts for nothing until it is listed, and used.

A key is *listed* (trusted: it stands in `/.well-known/jitgate` and in new trust files), then *active* (it signs; one of
each realm and kind), then listed again when another one is used, and *retired* when nothing by it is to be trusted.
"""

from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType, escape
from jitgate.ca.model import HeldKey, HeldKeys
from jitgate.ca.realms import DEFAULT_REALM, Authority, CaKind, Phase
from jitgate.ca.serials import first_serial
from jitgate.core.errors import BadInput, Conflict, NotFound, Unreachable
from jitgate.core.text import shown
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.ssh.pubkey import PublicKey

SERVICE = Actor("service")
_LS = "jitgate ca ls"
ROTATE = "jitgate ca rotate"


@dataclass(frozen=True, slots=True)
class Known:
    """A CA key that is listed, held by the signer, or both."""

    key: PublicKey
    realm: str
    kind: CaKind
    authority: Authority | None
    held: HeldKey | None


def authority_for(tx: Tx, realm: str, kind: CaKind) -> Authority:
    """The key that signs in that realm now; `Unreachable` if none is active."""
    for authority in tx.authorities.all():
        if authority.realm == realm and authority.kind is kind and authority.phase is Phase.ACTIVE:
            return authority
    raise Unreachable(f"realm {realm} has no {kind} CA key in use", "jitgate ca use KEY")


def trusted(tx: Tx) -> list[Authority]:
    """Every key whose certificates are to be taken: those that sign, and those that did or will."""
    return [authority for authority in tx.authorities.all() if authority.phase is not Phase.RETIRED]


async def list_held_keys(outside: Outside, actor: Actor) -> None:
    """In a new installation, or for a kind that a realm had no key of: list and use the first that the signer holds."""
    held = await outside.signer.keys()

    def job(tx: Tx) -> None:
        known = {(authority.realm, authority.kind) for authority in tx.authorities.all()}
        for key in held.authorities:
            if (key.realm, key.kind) not in known and key.kind is not CaKind.MOUNT:  # its mount's act lists it
                known.add((key.realm, key.kind))
                list_key(tx, outside, actor, key.key, key.realm, key.kind, Phase.ACTIVE)

    await outside.store.write(job)


async def known_authorities(outside: Outside) -> tuple[list[Known], HeldKeys]:
    """What is listed and what the signer holds, side by side."""
    held = await outside.signer.keys()
    listed = await outside.store.read(lambda tx: tx.authorities.all())
    by_key = {each.key: each for each in held.authorities}
    found = [Known(each.key, each.realm, each.kind, each, by_key.get(each.key)) for each in listed]
    keys = {each.key for each in listed}
    found += [Known(each.key, each.realm, each.kind, None, each) for each in held.authorities if each.key not in keys]
    return found, held


async def add_authority(
    outside: Outside, actor: Actor, wanted: str | PublicKey, kind: CaKind | None = None, realm: str = ""
) -> Authority:
    """List a key: one that the signer holds, by its file's name or fingerprint; or any, by its public half.

    `kind` and `realm` are needed for a key that the signer does not hold yet, and must fit one that it holds. Raises
    `NotFound`, `BadInput`, `Conflict` for a key that is or was listed.
    """
    held = (await outside.signer.keys()).authorities
    there = next((each for each in held if _is(each.key, each, wanted)), None)
    if there is None and isinstance(wanted, str):
        raise NotFound(f"the signer holds no key {shown(wanted)}", f"{_LS}; or name the file of its public half")
    key = there.key if there else wanted
    assert isinstance(key, PublicKey)  # noqa: S101  # a text that names no held key has been refused
    kind, realm = kind or (there.kind if there else None), realm or (there.realm if there else DEFAULT_REALM)
    if kind is None:
        raise BadInput("the signer does not hold this key: what is it for?", "--kind user, host or interception")
    if there and (there.kind, there.realm) != (kind, realm):
        raise BadInput(f"the signer holds this key as a {there.kind} key of {there.realm}", "signer.toml says so")

    def job(tx: Tx) -> Authority:
        if realm not in (known := [name for name, _ in tx.realms.all()]):
            raise NotFound(f"no realm {shown(realm)}", f"there is {', '.join(known)}: jitgate realm ls")
        if (standing := next((each for each in tx.authorities.all() if each.key == key), None)) is not None:
            raise Conflict(f"this key is {standing.phase} already, for {standing.kind} certificates", _LS)
        return list_key(tx, outside, actor, key, realm, kind, Phase.LISTED)

    return await outside.store.write(job)


async def use_authority(
    outside: Outside, actor: Actor, wanted: str, *, anyway: bool = False
) -> tuple[Authority, Authority | None]:
    """Sign with this listed key from now on, and no more with the one before, which stays trusted; both.

    Raises `NotFound`, `Conflict` when the signer does not hold it, or when hosts have not been told of it (a user key
    that was listed after their trust file was made), unless `anyway`.
    """
    found, _ = await known_authorities(outside)
    chosen = one_of(found, wanted)
    if chosen.authority is None:
        raise Conflict("this key is not listed", f"jitgate ca add {wanted}")
    if chosen.held is None:
        raise Conflict("the signer does not hold this key", "put its file into the folder of CA keys; " + _LS)
    wanted_id = chosen.authority.id

    def job(tx: Tx) -> tuple[Authority, Authority | None]:
        listed = tx.authorities.all()
        chosen = next(each for each in listed if each.id == wanted_id)
        if chosen.phase is Phase.RETIRED:
            raise Conflict("this key was retired", "make a new one: ssh-keygen -t ed25519")
        _check_no_plan(tx, chosen)
        same = [each for each in listed if (each.realm, each.kind) == (chosen.realm, chosen.kind)]
        before = next((each for each in same if each.phase is Phase.ACTIVE), None)
        if before == chosen:
            return chosen, before
        if chosen.kind is CaKind.USER and not anyway and (names := _untold(tx, chosen)):
            what = f"hosts that have not been told of this key: {' '.join(names[:20])}"
            raise Conflict(what, "jitgate host renew NAME, and on it jitgate host trust; then again, or --anyway")
        for each in same:
            if each.phase is Phase.ACTIVE:
                tx.authorities.set_phase(each.id, Phase.LISTED)
        tx.authorities.set_phase(chosen.id, Phase.ACTIVE)
        tx.move_epoch()
        previous = (("previous", before.key.fingerprint),) if before else ()
        say_of(tx, outside, actor, EventType.CA_KEY_USED, chosen, *previous)
        return chosen, before

    return await outside.store.write(job)


async def retire_authority(outside: Outside, actor: Actor, wanted: str) -> Authority:
    """Trust nothing by this key any more. Raises `NotFound`, `Conflict` for the one that signs."""
    found, _ = await known_authorities(outside)
    chosen = one_of(found, wanted).authority
    if chosen is None:
        raise Conflict("this key is not listed", _LS)

    def job(tx: Tx) -> Authority:
        now = next(each for each in tx.authorities.all() if each.id == chosen.id)
        if now.phase is Phase.ACTIVE:
            raise Conflict("this key signs", "use another one first: jitgate ca use KEY")
        _check_no_plan(tx, now)
        if now.phase is not Phase.RETIRED:
            tx.authorities.set_phase(now.id, Phase.RETIRED)
            tx.move_epoch()
            say_of(tx, outside, actor, EventType.CA_KEY_RETIRED, now)
        return now

    return await outside.store.write(job)


async def record_move(outside: Outside, actor: Actor, wanted: str, before: str) -> HeldKey:
    """Say in the log that the signer has a listed key from another keeper now. Raises `Conflict` where it has not."""
    found, _ = await known_authorities(outside)
    chosen = next((each for each in found if each.authority and each.held and each.held.file == wanted), None)
    if chosen is None or chosen.held is None or chosen.held.kept or not chosen.authority:
        raise Conflict(f"the signer has no listed key from {shown(wanted)}", _LS)
    authority, held = chosen.authority, chosen.held
    moved = ("file", held.file), ("before", escape(before, 100))
    await outside.store.write(lambda tx: say_of(tx, outside, actor, EventType.CA_KEY_MOVED, authority, *moved))
    return held


async def watch_held_keys(outside: Outside, said: dict[tuple[str, ...], Event]) -> None:
    """Record once what the signer found in its folder: `said` is what was recorded and is still so."""
    found, held = await known_authorities(outside)
    await _note_held(outside, held)
    now = dict(_facts(outside, found, held))
    new = [event for fact, event in now.items() if fact not in said]
    if new:

        def job(tx: Tx) -> None:
            for event in new:
                tx.log.append(event)

        await outside.store.write(job)
    said.clear()
    said.update(now)


async def _note_held(outside: Outside, held: HeldKeys) -> None:
    """For the other nodes: no key is used that one of them lacks."""
    mine = frozenset(each.key.fingerprint for each in held.authorities if not each.kept)
    if await outside.store.read(lambda tx: tx.nodes.held(outside.node)) != mine:
        await outside.store.write(lambda tx: tx.nodes.hold(outside.node, mine))


def _facts(outside: Outside, found: list[Known], held: HeldKeys) -> list[tuple[tuple[str, ...], Event]]:
    facts: list[tuple[tuple[str, ...], Event]] = []
    at = outside.clock()
    active = {(e.realm, e.kind): e for e in found if e.authority and e.authority.phase is Phase.ACTIVE}
    for each in found:
        mark, kind = each.key.fingerprint, each.kind.value
        signs = active.get((each.realm, each.kind))
        if each.authority is None and each.held and not each.held.kept:
            detail = [("ca", mark), ("kind", kind), ("file", each.held.file)]
            detail += [("signs", signs.key.fingerprint)] if signs else []
            event = Event(EventType.CA_KEY_FOUND, "done", at, each.realm, SERVICE, detail=tuple(detail))
            facts.append((("found", mark), event))
        if each is signs and (each.held is None or each.held.kept):
            why = f"{each.held.file} holds another key: this one is in memory until a restart" if each.held else "gone"
            detail = [("ca", mark), ("kind", kind), ("why", why)]
            event = Event(EventType.CA_KEY_LOST, "done", at, each.realm, SERVICE, detail=tuple(detail))
            facts.append((("lost", mark, why), event))
    for refused in held.refused:
        why = escape(refused.why, 500)
        refusal = (("file", refused.file), ("why", why))
        event = Event(EventType.CA_KEY_REFUSED, "refused", at, DEFAULT_REALM, SERVICE, detail=refusal)
        facts.append((("refused", refused.file, why), event))
    return facts


def list_key(
    tx: Tx, outside: Outside, actor: Actor, key: PublicKey, realm: str, kind: CaKind, phase: Phase
) -> Authority:
    """Inside a transaction: the key is an authority from now on, with serials of its own."""
    now = outside.clock()
    authority = Authority(outside.new_id(now), realm, kind, key, phase, now)
    epoch = int(tx.value("epoch") or 0)
    tx.authorities.add(authority, now, first_serial(epoch, outside.random))
    say_of(tx, outside, actor, EventType.CA_KEY_ADDED, authority, ("phase", phase.value))
    return authority


def _check_no_plan(tx: Tx, authority: Authority) -> None:
    """What a plan does is not done beside it."""
    for plan in tx.rotations.running():
        if (plan.realm, plan.kind) == (authority.realm, authority.kind):
            what = f"a plan replaces the {plan.kind} CA key of {plan.realm}: it is at {plan.step}"
            raise Conflict(what, f"{ROTATE} status; it goes on by advance, and ends by abort")


def say_of(
    tx: Tx, outside: Outside, actor: Actor, kind: EventType, authority: Authority, *more: tuple[str, str]
) -> None:
    """Inside a transaction: the entry about a CA key."""
    detail = (("ca", authority.key.fingerprint), ("kind", authority.kind.value), *more)
    tx.log.append(Event(kind, "done", outside.clock(), authority.realm, actor, detail=detail))


def _untold(tx: Tx, authority: Authority) -> list[str]:
    """Hosts whose newest trust file was made before the key was listed."""
    told = tx.certificates.hosts_certified()
    hosts = [host for host in tx.hosts.all() if host.realm == authority.realm]
    return sorted(host.name for host in hosts if told.get(host.id, 0) < authority.listed_at)


def one_of(found: list[Known], wanted: str) -> Known:
    """The key of that file or fingerprint; else `NotFound`."""
    matching = [each for each in found if _is(each.key, each.held, wanted)]
    if len(matching) != 1:
        raise NotFound(f"no CA key {shown(wanted)}" if not matching else f"{shown(wanted)} is several keys", _LS)
    return matching[0]


def _is(key: PublicKey, held: HeldKey | None, wanted: str | PublicKey) -> bool:
    """By the key itself, its fingerprint, or the file that holds it now."""
    if isinstance(wanted, PublicKey):
        return key == wanted
    return wanted == key.fingerprint or (held is not None and not held.kept and wanted == held.file)
