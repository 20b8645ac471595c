"""What agents are told: a list of trust for each realm, a bundle for each host. Made here, signed by the signer.

A bundle is the whole state for one host: the revocation list of its realm, the grants on it that ended before their
time, and the persons who were locked, each for as long as a certificate may still be valid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jitgate.ca import trust
from jitgate.ca.envelope import Envelope, make_envelope
from jitgate.ca.model import HeldAgentKeys, SignerRefusal
from jitgate.ca.realms import CaKind, Phase
from jitgate.ca.trust import TrustList, TrustVersion, trust_payload
from jitgate.core.clock import DAY, HOUR, Micros
from jitgate.core.errors import Unreachable
from jitgate.flow.authorities import trusted
from jitgate.flow.krl import krl_of
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.hosts import bundle
from jitgate.hosts.bundle import IDS_MAX, Bundle, EndedSession, bundle_payload, krl_digest
from jitgate.hosts.model import Host

BUNDLE_LIFE: Micros = DAY  # then the agent says that it has not heard of us; it goes on
REFRESH: Micros = 8 * HOUR  # a bundle that says nothing new is sent again after this, long before it ends
ENDED_FOR: Micros = DAY + HOUR  # the longest certificate of a person, and clocks


@dataclass(frozen=True, slots=True)
class Marks:
    """What moves when there is something to tell: restore epoch, state counter, counter of what is trusted, and the
    revocation epoch, which moves with all that takes something away."""

    epoch: int
    state: int
    trust: int
    revocation: int


@dataclass(frozen=True, slots=True)
class Told:
    """All that bundles say, as of one moment. By realm: the KRL and its digest; by realm and host: grants that ended;
    by host id: logins that have to end, by the id that the host's agent gave them."""

    installation: str
    marks: Marks
    krls: Mapping[str, tuple[bytes, str]]
    ended: Mapping[tuple[str, str], tuple[str, ...]]
    locked: tuple[str, ...]
    sessions: Mapping[str, tuple[EndedSession, ...]] = field(default_factory=dict)


Content = tuple[str, tuple[str, ...], tuple[EndedSession, ...], tuple[str, ...]]
"""What one host's bundle says, without version and times: as long as it is the same, there is nothing new."""


async def read_marks(outside: Outside, *, afresh: bool) -> Marks:
    """Without `afresh`, asked anew only when somebody lost something."""
    if afresh:
        return await outside.store.read(_marks)
    return await outside.store.recall(("agents' marks",), _marks)


async def read_told(outside: Outside, realms: Sequence[str], before: Told | None = None) -> Told:
    """`before`: its revocation lists are taken over while the state that they were made of has not moved."""
    now = outside.clock()

    def job(tx: Tx) -> Told:
        marks = _marks(tx)
        krls: dict[str, tuple[bytes, str]] = {}
        for realm in realms:
            known = before.krls.get(realm) if before and before.marks.state == marks.state else None
            if known is None:
                krl = krl_of(tx, realm, now)
                known = (krl, krl_digest(krl))
            krls[realm] = known
        ended: dict[tuple[str, str], list[str]] = {}
        for realm, host, grant in tx.grants.ended_since(now - ENDED_FOR, now):
            of_host = ended.setdefault((realm, host), [])
            if len(of_host) < IDS_MAX:
                of_host.append(grant)
        sessions: dict[str, list[EndedSession]] = {}
        for host_id, login, port in tx.host_logins.wanted(now - ENDED_FOR):
            sessions.setdefault(host_id, []).append(EndedSession(login, port))
        return Told(
            installation=tx.value("installation") or "",
            marks=marks,
            krls=krls,
            ended={key: tuple(dict.fromkeys(ids)) for key, ids in ended.items()},
            locked=tuple(tx.people.locked_since(now - ENDED_FOR)[:IDS_MAX]),
            sessions={host: tuple(each[:IDS_MAX]) for host, each in sessions.items()},
        )

    return await outside.store.read(job)


def content_for(told: Told, host: Host) -> Content:
    ended = told.ended.get((host.realm, host.name), ())
    return told.krls[host.realm][1], ended, told.sessions.get(host.id, ()), told.locked


def bundle_for(told: Told, host: Host, now: Micros) -> Bundle:
    krl, ended, sessions, locked = content_for(told, host)
    return Bundle(
        installation=told.installation,
        realm=host.realm,
        host_id=host.id,
        host=host.name,
        version=(told.marks.epoch, told.marks.state, now),
        made_at=now,
        expires_at=now + BUNDLE_LIFE,
        krl=krl,
        ended_grants=ended,
        ended_sessions=sessions,
        locked=locked,
    )


async def sign_bundles(outside: Outside, bundles: Sequence[Bundle]) -> list[Envelope]:
    """Raises `Unreachable` with the signer's reason when it does not sign one of them.

    Of many at once only the first is verified here: the others are by the same key, and each host verifies its own.
    """
    keys = await agent_keys(outside)
    payloads = [bundle_payload(each) for each in bundles]
    signed = await outside.signer.bundles(payloads)
    envelopes: list[Envelope] = []
    for payload, found in zip(payloads, signed, strict=True):
        if not envelopes or isinstance(found, SignerRefusal):
            envelopes.append(_sealed(bundle.DOMAIN, payload, keys, found))
        else:
            envelopes.append(Envelope(payload, keys.online.fingerprint, found))
    return envelopes


async def trust_list(outside: Outside, realm: str) -> tuple[TrustVersion, Envelope]:
    """What hosts of the realm are to trust, as of now. Raises `Unreachable` when the signer does not sign it."""
    keys, now = await agent_keys(outside), outside.clock()

    def job(tx: Tx) -> TrustList:
        marks = _marks(tx)
        listed = [each for each in trusted(tx) if each.realm == realm]
        listed.sort(key=lambda each: each.phase is not Phase.ACTIVE)  # the key that signs comes first
        by_kind = {kind: tuple(each.key for each in listed if each.kind is kind) for kind in CaKind}
        return TrustList(
            installation=tx.value("installation") or "",
            realm=realm,
            version=(marks.epoch, marks.trust),
            made_at=now,
            user=by_kind[CaKind.USER],
            host=by_kind[CaKind.HOST],
            interception=by_kind[CaKind.INTERCEPTION],
            online=keys.online,
        )

    made = await outside.store.read(job)
    payload = trust_payload(made)
    return made.version, _sealed(trust.DOMAIN, payload, keys, await outside.signer.trust(payload))


async def agent_keys(outside: Outside) -> HeldAgentKeys:
    """Root and online key. `Unreachable` where the signer has none."""
    keys = (await outside.signer.keys()).agents
    if keys is None:
        raise Unreachable("the signer has no root key and no online key", "signer.toml: [root] and [online]")
    return keys


def _marks(tx: Tx) -> Marks:
    return Marks(int(tx.value("epoch") or 0), tx.state(), tx.trust(), tx.epoch())


def _sealed(domain: bytes, payload: bytes, keys: HeldAgentKeys, found: bytes | SignerRefusal) -> Envelope:
    if isinstance(found, SignerRefusal):
        raise Unreachable(
            f"the signer does not say this to hosts: {found.why}", found.hint, code=f"signer_{found.code}"
        )
    return make_envelope(domain, payload, keys.root if domain == trust.DOMAIN else keys.online, found)
