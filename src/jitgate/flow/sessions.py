"""Connections through the gateway: admission, end, and what ends them from elsewhere.

A ticket is derived from what a certificate's answer says. To be let through it is asked twice: before the host is
dialled, so that nobody makes us dial without a right to it, and in the transaction that records the session, so that
what is taken away in between counts. Nothing is carried before that transaction is durable.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.clock import SECOND, Micros
from jitgate.core.errors import BadInput, Conflict, Denied, Error, NotFound, NotSignedIn
from jitgate.core.text import shown
from jitgate.flow.caller import Caller, check_again, check_provider, refusals_recorded
from jitgate.flow.certificates import Issued
from jitgate.flow.directory import groups_of
from jitgate.flow.floods import UNKNOWN
from jitgate.flow.grants import end_grants_of
from jitgate.flow.outside import Outside
from jitgate.flow.policy import policy_in_force
from jitgate.flow.ports import Tx
from jitgate.flow.registry import confirm_key_id
from jitgate.grants.model import Grant
from jitgate.identity.model import VerifiedIdentity
from jitgate.identity.sign_in import resume, with_groups
from jitgate.sessions.admit import Admission, Facts, Refusal, admit
from jitgate.sessions.path import GatewayPath
from jitgate.sessions.session import TAKEN, Session, Why
from jitgate.sessions.ticket import Ticket, make_ticket, open_ticket

LISTED_MAX = 200  # sessions in one answer; the log has the others
KEPT_MAX = 10_000  # of one person: more than a gateway carries
SILENT: Micros = 360 * SECOND  # a node that says nothing for so long has ended its sessions itself (gateway/tunnel.py)
_SERVICE = Actor("service")
_TAKEN_AWAY = frozenset({Why.DEADLINE, *TAKEN})


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody whose ticket is sound: what they want, and who they are if that was found out.

    `directory`: the groups that the directory has them in, if theirs come from there.
    """

    ticket: Ticket
    host: str
    source: str
    actor: Actor = UNKNOWN
    directory: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Passed:
    """May be dialled for; not yet let through."""

    asked: Asked
    admission: Admission


def ticket_for(outside: Outside, caller: Caller, issued: Issued) -> tuple[str, Micros] | None:
    """The ticket that goes with a certificate, and its end; None where there is no way through the gateway.

    It ends with the certificate, or with the sign-in if that is sooner: then a new sign-in is needed anyway.
    """
    path = outside.gateway
    if path is None or not path.carries(issued.grant.options):
        return None
    ends = min(issued.certificate.certificate.body.valid_before * SECOND, caller.sign_in.expires_at)
    ticket = Ticket(
        grant_id=issued.grant.id,
        sign_in_id=caller.sign_in.id,
        key_id=caller.proved_key().id,
        host_id=issued.host.id,
        host=issued.host.name,
        login=issued.login,
        expires_at=ends,
    )
    return make_ticket(ticket, path.key), ends


async def ask_session(outside: Outside, unverified_ticket: str, unverified_host: str, source: str) -> Passed:
    """Open the ticket and ask whether a session would be let through now. Raises `Error`, recorded before."""
    path = _path(outside)
    try:
        ticket = open_ticket(unverified_ticket, path.key)
    except Error as error:
        await refuse_stranger(outside, source, error)
        raise
    asked = await _ask_directory(outside, Asked(ticket, unverified_host, source))
    actor, answer = await outside.store.read(lambda tx: _admit(tx, outside, asked))
    asked = replace(asked, actor=actor)
    if isinstance(answer, Refusal):
        await refuse_session(outside, asked, answer.error)
        raise answer.error
    try:
        # Apart from the person's acts: who stole a ticket does not keep its owner from ending things.
        outside.rates.take(f"tunnels of {answer.identity.person_id}", outside.clock())
        await confirm_key_id(outside, ticket.key_id, actor.name)
    except Error as error:
        await refuse_session(outside, asked, error)
        raise
    return Passed(asked, answer)


async def _ask_directory(outside: Outside, asked: Asked) -> Asked:
    """With the groups of now, where they come from the directory. Raises `Error`, recorded before."""
    if not outside.elsewhere.providers:
        return asked
    sign_in = await outside.store.read(lambda tx: tx.sign_ins.by_id(asked.ticket.sign_in_id))
    if sign_in is None:
        return asked
    try:
        return replace(asked, directory=await groups_of(outside, sign_in))
    except Error as error:
        actor, _ = await outside.store.read(lambda tx: _admit(tx, outside, asked))
        await refuse_session(outside, replace(asked, actor=actor), error)
        raise


async def open_session(outside: Outside, passed: Passed, port: int, via: str = "") -> Session:
    """Let through: decided anew and written in one transaction. `via`, `port`: where the host sees it come from.

    Raises `Error`.
    """
    asked = passed.asked

    def job(tx: Tx) -> Session | Refusal:
        actor, answer = _admit(tx, outside, asked)
        if isinstance(answer, Refusal):
            return answer
        now = outside.clock()
        session = _session(answer, asked, outside.new_id(now), outside.node, port, now)
        session = replace(session, via=via)
        tx.sessions.add(session)
        tx.log.append(_opened(session, answer, actor))
        return session

    made = await outside.store.write(job)
    if isinstance(made, Refusal):
        await refuse_session(outside, asked, made.error)
        raise made.error
    return made


async def close_session(
    outside: Outside, session: Session, why: Why, *, up: int = 0, down: int = 0, at: Micros | None = None
) -> None:
    """That a session has ended, once."""
    now = outside.clock() if at is None else at
    await outside.store.write(lambda tx: _close(tx, session, why, up, down, now))


async def refuse_session(outside: Outside, asked: Asked, error: Error) -> None:
    """Of a sound ticket. A client that tries again and again is one entry a minute with a count."""
    now = outside.clock()
    if not outside.floods.is_first(asked.source, EventType.SESSION_REFUSED, now, asked.actor):
        return
    ticket = asked.ticket
    event = Event(
        EventType.SESSION_REFUSED,
        "refused",
        now,
        DEFAULT_REALM,
        asked.actor,
        target=f"{ticket.login}@host:{ticket.host}",
        grant=ticket.grant_id,
        checks=error.checks,
        source=asked.source,
        detail=(("code", error.code), ("key", ticket.key_id)),
    )
    await outside.store.write(lambda tx: tx.log.append(event))


async def refuse_stranger(outside: Outside, source: str, error: Error) -> None:
    """Whoever showed no ticket of ours: counted with the others of their address."""
    now = outside.clock()
    if outside.floods.is_first(source, EventType.SESSION_REFUSED, now):
        detail = (("code", error.code), ("why", error.what))
        event = Event(EventType.SESSION_REFUSED, "refused", now, DEFAULT_REALM, UNKNOWN, source=source, detail=detail)
        await outside.store.write(lambda tx: tx.log.append(event))


async def list_sessions(outside: Outside, caller: Caller, *, everybody: bool, ended: bool) -> list[Session]:
    """The caller's sessions; everybody's for an admin who asks so. Newest first; open ones only unless `ended`."""
    if everybody and not caller.identity.admin:
        raise Denied("you may list your own sessions only", "ask an admin for the others")
    return await all_sessions(outside, person_id=None if everybody else caller.identity.person_id, ended=ended)


async def all_sessions(outside: Outside, *, person_id: str | None = None, ended: bool = False) -> list[Session]:
    if ended:
        return await outside.store.read(lambda tx: tx.sessions.latest(LISTED_MAX, person_id=person_id))
    return await outside.store.read(lambda tx: tx.sessions.open(person_id=person_id, limit=LISTED_MAX))


async def end_session(outside: Outside, caller: Caller, session_id: str, reason: str) -> Session:
    """Have a session ended: one's own, or as an admin anybody's. Whoever carries it ends it within a second."""

    def job(tx: Tx) -> Session:
        identity = check_again(tx, outside, caller).identity
        session = tx.sessions.by_id(session_id)
        if session is None or not (identity.admin or session.person_id == identity.person_id):
            raise NotFound(f"no session {shown(session_id)} of yours", "jitctl sessions ls")
        return _kill(tx, session, caller.actor, outside.clock(), reason, caller.source)

    async with refusals_recorded(outside, caller):
        return await outside.store.write(job)


async def kill_session(outside: Outside, actor: Actor, session_id: str, reason: str = "") -> Session:
    """An operator's: as `end_session`."""

    def job(tx: Tx) -> Session:
        session = tx.sessions.by_id(session_id)
        if session is None:
            raise NotFound(f"no session {shown(session_id)}", "jitgate session ls")
        return _kill(tx, session, actor, outside.clock(), reason, "")

    return await outside.store.write(job)


def kept_sessions(tx: Tx, person_id: str, now: Micros) -> list[tuple[Session, Grant]]:
    """A person's sessions that go on though their grant has run out (`on_expiry: keep`), with that grant."""
    opened = [(each, tx.grants.by_id(each.grant_id)) for each in tx.sessions.open(person_id=person_id, limit=KEPT_MAX)]
    return [(each, grant) for each, grant in opened if grant and grant.ended_at is None and grant.ends_at <= now]


def end_all_of(tx: Tx, person_id: str, actor: Actor, now: Micros, why: str, *, which: Callable[[Grant], bool]) -> None:
    """Inside a transaction: these grants of a person end, with all under them, and what goes on of those that have run
    out (`kept_sessions`)."""
    end_grants_of(tx, person_id, actor, now, why, which=which)
    for session, grant in kept_sessions(tx, person_id, now):
        if which(grant) and tx.sessions.ask_to_end(session.id, now):
            _say_killed(tx, session, actor, now, why, "")


async def sessions_to_end(outside: Outside, *, afresh: bool) -> list[tuple[str, Why]]:
    """Which of this node's sessions may not go on. Without `afresh`, asked anew only when somebody lost something."""
    node = outside.node
    if afresh:
        return await outside.store.read(lambda tx: tx.sessions.to_end(node))
    return await outside.store.recall(("sessions to end", node), lambda tx: tx.sessions.to_end(node))


async def node_seen(outside: Outside, name: str) -> None:
    now = outside.clock()
    await outside.store.write(lambda tx: tx.nodes.seen(outside.node, name, now))


async def close_left_open(outside: Outside, carried: Iterable[str] = ()) -> int:
    """Close what this node left open when it crashed, and what others did that say nothing any more; how many.

    `carried`: sessions that this node does carry.
    """
    node, now, ours = outside.node, outside.clock(), set(carried)

    def job(tx: Tx) -> int:
        left = [each for each in tx.sessions.left_open(node, now - SILENT) if each.id not in ours]
        for session in left:
            _close(tx, session, Why.CRASHED if session.node == node else Why.LOST, 0, 0, now)
        return len(left)

    return await outside.store.write(job)


def _path(outside: Outside) -> GatewayPath:
    if outside.gateway is None:
        raise BadInput("this service has no gateway", "connect directly")
    return outside.gateway


def _admit(tx: Tx, outside: Outside, asked: Asked) -> tuple[Actor, Admission | Refusal]:
    """All facts at one moment, and the answer on them; and who it is about."""
    ticket, now = asked.ticket, outside.clock()
    identity = _identity(tx, outside, asked, now)
    grant = tx.grants.by_id(ticket.grant_id)
    facts = Facts(
        identity=identity,
        key=tx.keys.by_id(ticket.key_id),
        grant=grant,
        host=tx.hosts.by_name(DEFAULT_REALM if grant is None else grant.realm, ticket.host),
        policy=policy_in_force(tx),
        sessions=tx.sessions.count_open(ticket.grant_id),
    )
    actor = UNKNOWN
    if identity is not None:
        actor = Actor(identity.kind.value, identity.person_id, identity.name)
    elif grant is not None:
        actor = Actor(grant.holder.kind.value, grant.person_id, grant.holder.name)
    return actor, admit(ticket, asked.host, asked.source, facts, now)


def _identity(tx: Tx, outside: Outside, asked: Asked, now: Micros) -> VerifiedIdentity | None:
    sign_in = tx.sign_ins.by_id(asked.ticket.sign_in_id)
    person = tx.people.by_id(sign_in.person_id) if sign_in else None
    with suppress(NotSignedIn):
        identity = resume(sign_in, person, now)
        if sign_in is not None:
            check_provider(outside, sign_in)
        return identity if asked.directory is None else with_groups(identity, asked.directory)
    return None


def _session(admission: Admission, asked: Asked, session_id: str, node: str, port: int, now: Micros) -> Session:
    grant, host = admission.grant, admission.host
    return Session(
        id=session_id,
        realm=grant.realm,
        grant_id=grant.id,
        person_id=admission.identity.person_id,
        person_name=admission.identity.name,
        key_id=admission.key_id,
        host_id=host.id,
        host=host.name,
        login=admission.login,
        node=node,
        source=asked.source,
        port=port,
        opened_at=now,
        ends_at=admission.ends_at,
    )


def _opened(session: Session, admission: Admission, actor: Actor) -> Event:
    return Event(
        EventType.SESSION_OPENED,
        "allowed",
        session.opened_at,
        session.realm,
        actor,
        target=session.target,
        grant=session.grant_id,
        session=session.id,
        source=session.source,
        detail=(
            ("kind", session.kind),
            ("node", session.node),
            ("port", session.port),
            ("ends_at", session.ends_at),
            ("role", admission.grant.role),
            ("policy", admission.policy_digest),
            ("key", session.key_id),
        ),
    )


def _close(tx: Tx, session: Session, why: Why, up: int, down: int, now: Micros) -> None:
    if not tx.sessions.end(session.id, now, why.value, up, down):
        return
    if why in _TAKEN_AWAY and tx.host_logins.ask_to_end_session(session.id, now):
        tx.move_epoch()  # the host's agent ends what is left of it there
    tx.log.append(
        Event(
            EventType.SESSION_ENDED,
            "done",
            now,
            session.realm,
            _SERVICE,
            target=session.target,
            subject=session.person_id,
            subject_name=session.person_name,
            grant=session.grant_id,
            session=session.id,
            source=session.source,
            detail=(
                ("why", why.value),
                ("up", up),
                ("down", down),
                ("opened_at", session.opened_at),
                ("kind", session.kind),
                ("node", session.node),
            ),
        )
    )


def _kill(tx: Tx, session: Session, actor: Actor, now: Micros, reason: str, source: str) -> Session:
    if session.ended_at is not None:
        raise Conflict("that session has ended already", "jitctl sessions ls")
    tx.sessions.ask_to_end(session.id, now)
    _say_killed(tx, session, actor, now, reason, source)
    return session


def _say_killed(tx: Tx, session: Session, actor: Actor, now: Micros, reason: str, source: str) -> None:
    tx.move_epoch()  # so that its node looks at once
    tx.log.append(
        Event(
            EventType.SESSION_KILLED,
            "done",
            now,
            session.realm,
            actor,
            target=session.target,
            subject=session.person_id,
            subject_name=session.person_name,
            grant=session.grant_id,
            session=session.id,
            reason=reason,
            source=source,
        )
    )
