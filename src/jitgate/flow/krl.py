"""The revocation list of a realm, and how far hosts have it."""

from dataclasses import dataclass
from hashlib import sha256
from itertools import groupby
from operator import itemgetter

from jitgate.ca.realms import DEFAULT_REALM, CaKind
from jitgate.ca.revocation import MARGIN, Revocation, What
from jitgate.core.clock import SECOND, Micros
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.ssh.krl import Certificates, Krl, dump_krl
from jitgate.ssh.krl_serials import Serials

_EPOCH_SHIFT = 48  # a restored database counts again from a lower number: its lists are newer all the same


async def current_krl(outside: Outside, realm: str, *, hosts: bool = False) -> tuple[bytes, str]:
    """The list and its SHA-256 in hex, as of the newest act that hosts have to be told of. `hosts` as in `krl_of`.

    Made anew when the state counter has moved, and each hour: the epoch moves for less.
    """

    def job(tx: Tx) -> tuple[bytes, str]:
        now = outside.clock()
        made = (tx.state(), now // MARGIN)  # before the list: it can only be newer
        known = outside.krls.get((realm, hosts))
        if known is None or known[0] != made:
            data = krl_of(tx, realm, now, hosts=hosts)
            known = outside.krls[realm, hosts] = (made, data, sha256(data).hexdigest())
        return known[1:]

    return await outside.store.recall(("krl", realm, hosts), job)


def krl_of(tx: Tx, realm: str, now: Micros, *, hosts: bool = False) -> bytes:
    """What no host of the realm may take: the same bytes for the same rows, on whatever node. `hosts`: only what
    nobody who connects may take for a host, which is little, and is fetched by everybody.

    An empty list is a list too: sshd refuses everybody where there is none.
    """
    newest = tx.revocations.latest(1)
    rows = groupby(tx.revocations.serials(realm, now - MARGIN, CaKind.HOST if hosts else None), itemgetter(0))
    certificates = {ca: Certificates(Serials(row[1:] for row in of_ca)) for ca, of_ca in rows}
    keys = frozenset(tx.revocations.own_keys(realm) if hosts else tx.revocations.keys(realm))
    if hosts:  # no counter: it is the same list as long as it says the same
        return dump_krl(Krl(comment=f"jitgate {realm}".encode(), certificates=certificates, keys=keys))
    return dump_krl(
        Krl(
            version=int(tx.value("epoch") or 0) << _EPOCH_SHIFT | tx.state(),
            generated=newest[0].made_at // SECOND if newest else 0,
            comment=f"jitgate {realm}".encode(),
            certificates=certificates,
            keys=keys,
        )
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """Of the hosts that a revocation concerns: `told` have it; `slowest`: how long the last of them took; `waiting`
    have an agent and did not say so yet; `without_agent` take the certificate until it ends. Names in order."""

    hosts: int
    told: int
    slowest: Micros | None
    waiting: tuple[str, ...]
    without_agent: tuple[str, ...]


async def progress_of(outside: Outside, made: Revocation) -> Progress:
    return await outside.store.read(lambda tx: _progress(tx, made))


def _progress(tx: Tx, made: Revocation) -> Progress:
    """Keys of persons are revoked in every realm, all else in its own."""
    everywhere = made.what in (What.KEY, What.PERSON)
    hosts = [host for host in tx.hosts.all() if everywhere or host.realm == made.realm]
    states = {state.host_id: state for state in tx.host_states.all(None if everywhere else made.realm)}
    wanted = (int(tx.value("epoch") or 0), made.counter)
    slowest: Micros | None = None
    waiting, without = [], []
    for host in hosts:
        name = host.name if host.realm == DEFAULT_REALM else f"{host.realm}/{host.name}"
        if (state := states.get(host.id)) is None:
            without.append(name)
        elif state.bundle is None or state.bundle[:2] < wanted:
            waiting.append(name)
        else:
            slowest = max(slowest or 0, (state.bundle_at or 0) - made.made_at)
    told = len(hosts) - len(waiting) - len(without)
    return Progress(len(hosts), told, slowest, tuple(sorted(waiting)), tuple(sorted(without)))
