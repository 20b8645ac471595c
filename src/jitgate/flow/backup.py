"""A CA key that is kept offline: listed, so that everybody trusts it, and held by no signer until it is needed."""

from dataclasses import dataclass

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import Authority, CaKind
from jitgate.core.errors import NotFound
from jitgate.core.text import shown
from jitgate.flow.authorities import trusted
from jitgate.flow.obstacles import hosts_without
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.ssh.pubkey import PublicKey


@dataclass(frozen=True, slots=True)
class BackupFacts:
    """What a drill needs: the key as it is listed; all that is trusted for the same; hosts that lack it; all hosts."""

    authority: Authority
    trusted: tuple[PublicKey, ...]
    without: tuple[str, ...]
    hosts: tuple[str, ...]


async def backup_facts(outside: Outside, fingerprint: str) -> BackupFacts:
    """`NotFound` for a key that is not trusted."""

    def job(tx: Tx) -> BackupFacts:
        listed = trusted(tx)
        key = next((each for each in listed if each.key.fingerprint == fingerprint), None)
        if key is None:
            raise NotFound(f"no CA key {shown(fingerprint)} is trusted", "jitgate ca ls; jitgate ca backup make")
        same = tuple(each.key for each in listed if (each.realm, each.kind) == (key.realm, key.kind))
        without = tuple(hosts_without(tx, key)) if key.kind is CaKind.USER else ()
        return BackupFacts(key, same, without, tuple(h.name for h in tx.hosts.all() if h.realm == key.realm))

    return await outside.store.read(job)


async def record_drill(outside: Outside, actor: Actor, fingerprint: str) -> None:
    """That the key signed what an sshd of its own took. Raises `NotFound`."""
    key = (await backup_facts(outside, fingerprint)).authority
    detail = (("ca", fingerprint), ("kind", key.kind.value))
    event = Event(EventType.CA_BACKUP_DRILLED, "done", outside.clock(), key.realm, actor, detail=detail)
    await outside.store.write(lambda tx: tx.log.append(event))
