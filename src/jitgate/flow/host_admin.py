"""What admins do with hosts over the API: see them with their agents, label them, take them out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from jitgate.audit.events import Event, EventType
from jitgate.core.errors import NotFound
from jitgate.core.text import shown
from jitgate.flow.caller import Caller, check_admin, check_again, refusals_recorded
from jitgate.flow.hosts import drop_host
from jitgate.flow.joining import WAITING_FOR
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.hosts.enrolment import HostState, Waiting
from jitgate.hosts.model import Host


@dataclass(frozen=True, slots=True)
class Seen:
    """A host, and what its agent said last; None for one without an agent."""

    host: Host
    state: HostState | None


@dataclass(frozen=True, slots=True)
class Fleet:
    """`state`: the counter that agents have when they know of everything that was taken away."""

    hosts: tuple[Seen, ...]
    waiting: tuple[Waiting, ...]
    state: int
    trust: int


async def list_agents(outside: Outside, caller: Caller) -> Fleet:
    check_admin(caller)
    oldest = outside.clock() - WAITING_FOR

    def job(tx: Tx) -> Fleet:
        states = {state.host_id: state for state in tx.host_states.all()}
        seen = tuple(Seen(host, states.get(host.id)) for host in tx.hosts.all())
        waiting = tuple(each for each in tx.waiting_hosts.all() if each.asked_at >= oldest)
        return Fleet(seen, waiting, tx.state(), tx.trust())

    return await outside.store.read(job)


async def label_host(
    outside: Outside, caller: Caller, realm: str, name: str, set_: Mapping[str, str], unset: Sequence[str]
) -> Host:
    """Roles that ask for labels may cover it from now on, or no more. Raises `NotFound`, `BadInput`, `Denied`."""
    now = outside.clock()

    def job(tx: Tx) -> Host:
        admin = check_admin(check_again(tx, outside, caller))
        host = _standing(tx, realm, name)
        labels = {key: value for key, value in host.labels.items() if key not in unset} | dict(set_)
        changed = replace(host, labels=labels)
        if dict(changed.labels) == dict(host.labels):
            return host
        tx.hosts.set_labels(host.id, changed.labels)
        tx.move_epoch()
        text = " ".join(f"{key}={value}" for key, value in sorted(labels.items()))[:2000]
        event = Event(
            EventType.HOST_CHANGED, "done", now, realm, admin, target=f"host:{name}", detail=(("labels", text),)
        )
        tx.log.append(event)
        return changed

    async with refusals_recorded(outside, caller):
        return await outside.store.write(job)


async def take_host_out(outside: Outside, caller: Caller, realm: str, name: str) -> Host:
    """Forget it: nothing is issued for it any more, and its agent is refused."""
    now = outside.clock()

    def job(tx: Tx) -> Host:
        admin = check_admin(check_again(tx, outside, caller))
        host = _standing(tx, realm, name)
        drop_host(tx, host, admin, now)
        return host

    async with refusals_recorded(outside, caller):
        return await outside.store.write(job)


def _standing(tx: Tx, realm: str, name: str) -> Host:
    host = tx.hosts.by_name(realm, name)
    if host is None:
        raise NotFound(f"no host {shown(name)} in the realm {shown(realm)}", "jitctl hosts ls")
    return host
