"""What hosts' agents say of logins: written into the log, joined with the tunnel, and ended where it does not fit.

A login came through a tunnel when its host sees it come from the address and port that the gateway, or for a connection
that was dialled back the agent, has for a session. It has to be by a certificate for that session's grant, person and
login: one by another, or by none, ends with the tunnel and is an alarm. All this is the host's own word: root of a host
can say what it likes about that host, and about no other.
"""

from ipaddress import ip_address, ip_network

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.names import is_user_key_id, user_key_id
from jitgate.ca.realms import CaKind
from jitgate.core.clock import DAY, MINUTE, Micros
from jitgate.core.text import shown
from jitgate.flow.authorities import trusted
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.hosts.agent_wire import Report
from jitgate.hosts.host_login import Alarm, Ended, HostReport, How, KeptLogin, LeftBehind, Login, Logout, take_report
from jitgate.hosts.model import Host
from jitgate.sessions.session import Session

LATELY: Micros = 10 * MINUTE  # a session that ended so long ago may still be reported: the agent had no connection
KEPT_FOR: Micros = 40 * DAY
_AGENT = Actor("service")
_WORDS = 1500


async def take_host_report(outside: Outside, host: Host, unverified: Report) -> None:
    """`BadInput` for what no agent reports: it is hung up on."""
    said = take_report(unverified)
    await outside.store.write(lambda tx: _take(tx, outside, host, said))


async def look_for_ends(outside: Outside, last: list[Micros]) -> None:
    """Wakes who tells agents when a grant ran out by which somebody logged in. `last`: when it was looked before."""
    now = outside.clock()
    since = last[0] if last else now
    last[:] = [now]
    if await outside.store.read(lambda tx: tx.host_logins.ran_out(since, now)):
        await outside.store.write(lambda tx: tx.move_epoch())


async def forget_logins(outside: Outside) -> None:
    before = outside.clock() - KEPT_FOR
    await outside.store.write(lambda tx: tx.host_logins.forget(before))


def _take(tx: Tx, outside: Outside, host: Host, said: HostReport) -> None:
    now = outside.clock()
    match said:
        case Login():
            _began(tx, outside, host, said, now)
        case Logout():
            _ended(tx, host, said, now)
        case LeftBehind():
            items = " ".join(f"{kind}={where}" for kind, where in said.items)[:_WORDS]
            detail = (("login", said.id), ("items", shown(items, _WORDS)[1:-1]))
            target, grant = f"{said.login}@host:{host.name}", _grant_of(said.key_id)
            _say(tx, EventType.LOGIN_LEFT_BEHIND, host, now, target, detail, grant=grant, key_id=said.key_id)
        case Alarm():
            _say(tx, EventType.LOGIN_ALARM, host, now, "", (("code", said.code), ("why", said.detail)))


def _began(tx: Tx, outside: Outside, host: Host, login: Login, now: Micros) -> None:
    ours = _is_ours(tx, host, login)
    grant = _grant_of(login.key_id) if ours else ""
    session = _tunnel_of(tx, outside, host, login, now)
    fits = session is not None and ours and _fits(session, login)
    if not tx.host_logins.add(KeptLogin(host.id, host.realm, login, session.id if session else "", grant)):
        return
    target = f"{login.login}@host:{host.name}"
    named = tx.grants.by_id(grant) if grant else None
    person = (named.person_id, named.holder.name) if named else ("", "")
    detail = (("login", login.id), ("how", login.how.value), ("port", login.port), ("verified", int(login.verified)))
    through = session.id if session and fits else ""
    _say(tx, EventType.LOGIN_BEGAN, host, now, target, detail, login=login, grant=grant, session=through, person=person)
    if session is None or fits:
        return
    why = "no certificate of ours" if not ours else "a certificate of another grant, person or login"
    code = "no_certificate" if not ours else "other_certificate"
    alarm = (("code", code), ("why", f"{why} in the tunnel of {session.person_name}"), ("login", login.id))
    _say(tx, EventType.LOGIN_ALARM, host, now, target, alarm, login=login, grant=session.grant_id, session=session.id)
    if login.verified:  # a text that others can write ends nobody
        tx.host_logins.ask_to_end(host.id, login.id, now)
        tx.sessions.ask_to_end(session.id, now)
        tx.move_epoch()


def _ended(tx: Tx, host: Host, said: Logout, now: Micros) -> None:
    kept = tx.host_logins.end(host.id, said.id, now)
    if kept is None:
        return
    if kept.kill_at is not None:
        tx.move_epoch()  # its bundle need not name it any more
    target = f"{kept.login.login}@host:{host.name}"
    why = said.why.value if said.all_gone else Ended.LOST.value
    detail = (("login", said.id), ("why", why), ("processes", said.ended))
    _say(tx, EventType.LOGIN_ENDED, host, now, target, detail, grant=kept.grant, session=kept.session)


def _is_ours(tx: Tx, host: Host, login: Login) -> bool:
    """By a certificate of a CA that the host's realm trusts, with a key id of our form."""
    if login.how is not How.CERTIFICATE or not is_user_key_id(login.key_id):
        return False
    keys = {each.key.fingerprint for each in trusted(tx) if (each.realm, each.kind) == (host.realm, CaKind.USER)}
    return login.ca in keys


def _tunnel_of(tx: Tx, outside: Outside, host: Host, login: Login, now: Micros) -> Session | None:
    """The session by whose connection it came. One that its certificate fits, before any other at the same port."""
    there = [each for each in tx.sessions.at_port(host.id, login.port, now - LATELY) if login.port]
    for session in there:
        if _fits(session, login):
            return session
    return next((each for each in there if _comes_by(outside, each, login.source)), None)


def _comes_by(outside: Outside, session: Session, source: str) -> bool:
    if source == session.via:
        return True
    networks = outside.gateway.networks if outside.gateway else ()
    return any(ip_address(source) in ip_network(each) for each in networks)


def _fits(session: Session, login: Login) -> bool:
    wanted = user_key_id(session.grant_id, session.person_name)
    return (login.key_id, login.login) == (wanted, session.login)


def _grant_of(key_id: str) -> str:
    return key_id.removeprefix("jitgate grant=").partition(" ")[0] if is_user_key_id(key_id) else ""


def _say(
    tx: Tx,
    kind: EventType,
    host: Host,
    now: Micros,
    target: str,
    detail: tuple[tuple[str, str | int], ...],
    *,
    login: Login | None = None,
    key_id: str = "",
    grant: str = "",
    session: str = "",
    person: tuple[str, str] = ("", ""),
) -> None:
    tx.log.append(
        Event(
            kind,
            "done",
            now,
            host.realm,
            _AGENT,
            target=target or f"host:{host.name}",
            key_id=login.key_id if login else key_id,
            serial=(login.serial or None) if login else None,
            source=login.source if login else "",
            detail=detail,
            grant=grant,
            session=session,
            subject=person[0],
            subject_name=person[1],
        )
    )
