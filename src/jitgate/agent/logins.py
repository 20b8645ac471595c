"""Logins on this host while they last: who is in, by what, and which of them have to end.

A login ends here when it was made by a certificate of the realm's user CA and its grant has ended or the certificate
was revoked, by the bundle that is in force; and when the service names this very login, by the id that this agent gave
it and its port, in a bundle that has not run out. Nothing else ends anybody. What is ended is the login's own processes
(processes.py), also when its connection has gone and only something that detached itself is left. A login that is over
is still known: an audit session is one login's for as long as the machine runs, and what shows up in it ends as well.

What is known survives a restart of the agent (`logins.json`), not one of the machine: process numbers are new then.
"""

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from jitgate.agent import durable, processes
from jitgate.agent.accepted import Accepted, grant_of
from jitgate.agent.held import Held
from jitgate.agent.processes import Process, Tree
from jitgate.core.clock import DAY, SECOND, Clock, Micros
from jitgate.core.errors import Error
from jitgate.core.fields import read_json
from jitgate.hosts.agent_wire import Report
from jitgate.hosts.bundle import is_expired
from jitgate.hosts.host_login import Alarm, Ended, How, LeftBehind, Login, Logout, make_report
from jitgate.ssh.krl import Krl, parse_krl

FILE: Final = "logins.json"
LOGINS_MAX: Final = 4096  # of one host at a time; of more the newest are reported, and not kept
GONE_MAX: Final = 4096  # of those that are over; of more the oldest are forgotten
YOUNG: Micros = 5 * SECOND  # for so long PAM may take to give a login its marks
BEHIND_A_LOOK: Final = 4  # grants whose logins' files are looked through at a time: it takes a while
GRANTS_FOR: Micros = 40 * DAY  # a grant that is not heard of for so long is forgotten
_FILE_MAX: Final = 32 << 20
_LOG: Final = logging.getLogger("jitgate.agent")


@dataclass(frozen=True, slots=True)
class Seen:
    """`ours`: by a certificate of the realm's CA. `key`: the certified key's blob in hex, where it is known."""

    login: Login
    tree: Tree
    grant: str = ""
    ours: bool = False
    key: str = ""
    why: str = ""
    """Why it is being ended, once it is."""
    over: bool = False
    """That it is over was reported. Its processes may show up again all the same."""


@dataclass(frozen=True, slots=True)
class Stay:
    """A grant's logins under one name: what they left behind is looked for when it has ended."""

    login_id: str
    login: str
    key_id: str
    since: Micros
    seen_at: Micros


@dataclass(slots=True)
class Logins:
    """`report`: to the service. `changed`: what a login changed since then, to come back by (left_behind.py)."""

    held: Held
    state: Path
    clock: Clock
    new_id: Callable[[Micros], str]
    report: Callable[[Report], None]
    changed: Callable[[str, Micros], list[tuple[str, str]]]
    seen: dict[Process, Seen] = field(default_factory=dict)
    gone: dict[Process, Seen] = field(default_factory=dict)
    stays: dict[tuple[str, str], Stay] = field(default_factory=dict)
    _krl: tuple[str, Krl | None] = ("", None)
    _saved: tuple[object, ...] = ()

    # ---- who is in ----

    def entered(self, told: Accepted, *, verified: bool = True) -> Seen | None:
        """Somebody got in; None for one that is known already, is over already, or is no sshd's."""
        found = processes.stat(told.pid)
        if found is None or not processes.is_sshd(told.pid) or told.started not in (0, found.process.started):
            return None
        if found.process in self.gone:
            return None
        known = self.seen.get(found.process)
        if known is not None:  # both sources tell: PAM's knows the key as well
            if told.key and not known.key:
                self.seen[found.process] = replace(known, key=told.key.hex())
            return None
        peer = processes.peer_of(found.process) or (told.source, told.port)
        now, trust = self.clock(), self.held.trust
        ours = told.how is How.CERTIFICATE and trust is not None and told.ca in {key.fingerprint for key in trust.user}
        # another CA's serials and key ids may be of forms that no report has
        named = (told.serial, told.key_id, told.ca) if ours else (0, "", told.ca)
        login = Login(self.new_id(now), told.login[:32], peer[0] or "0.0.0.0", peer[1], now, told.how, verified, *named)  # noqa: S104  # unknown
        seen = Seen(
            login, processes.tree_of(found.process), grant_of(told.key_id) if ours else "", ours, told.key.hex()
        )
        if len(self.seen) < LOGINS_MAX:
            self.seen[found.process] = seen
        if seen.grant:
            key = (seen.grant, login.login)
            before = self.stays.get(key)
            since = before.since if before else now
            self.stays[key] = Stay(login.id, login.login, login.key_id, since, now)
        self.report(make_report(login))
        return seen

    # ---- who has to go ----

    def mark(self) -> bool:
        """Takes the marks that came late; whether some are to come. A login may last for milliseconds only."""
        for process, seen in list(self.seen.items()):
            if (tree := processes.marked(seen.tree)) != seen.tree:
                self.seen[process] = replace(seen, tree=tree)
        young = self.clock() - YOUNG
        return any(not seen.tree.audit and seen.login.at > young for seen in self.seen.values())

    def look(self) -> None:
        """Those that have to end, first; then logins that have ended, and what shows up of those. Blocks for as long as
        ending takes, some seconds at most."""
        self.mark()
        due = [(seen, why) for seen in self.seen.values() if (why := self.reason(seen))]
        due += [(seen, why) for seen in self.gone.values() if not seen.why and (why := self.reason(seen))]
        self._end(due)
        self._walk()
        self._look_behind()
        self.save()

    def _walk(self) -> None:
        if not self.seen and not self.gone:
            return
        snap = processes.snapshot([seen.tree for seen in (*self.seen.values(), *self.gone.values())])
        shown = [seen for seen in self.gone.values() if processes.members(seen.tree, snap)]
        for seen in [each for each in self.seen.values() if not processes.members(each.tree, snap)]:
            if not seen.over:
                self.report(make_report(Logout(seen.login.id, self.clock(), Ended.ITSELF)))
            self._is_over(seen)
        self._end([(seen, Ended(seen.why)) for seen in shown if seen.why])
        for seen in shown:
            if not seen.why:  # its grant goes on, so it does too
                self.seen[seen.tree.monitor] = self.gone.pop(seen.tree.monitor)

    def _is_over(self, seen: Seen) -> None:
        """Known by its audit session from now on: that is never another's, as a scope's name may be."""
        self.seen.pop(seen.tree.monitor, None)
        self.gone.pop(seen.tree.monitor, None)
        if seen.tree.audit:
            self.gone[seen.tree.monitor] = replace(seen, tree=replace(seen.tree, scope=""), over=True)
        while len(self.gone) > GONE_MAX:
            del self.gone[next(iter(self.gone))]

    def reason(self, seen: Seen) -> Ended | None:
        """Why this login has to end; None while it may go on."""
        bundle = self.held.bundle
        if bundle is None:
            return None
        if seen.grant and seen.grant in bundle.ended_grants:
            return Ended.GRANT
        if seen.ours and self._is_revoked(seen):
            return Ended.REVOKED
        wanted = {(each.id, each.port) for each in bundle.ended_sessions}
        if (seen.login.id, seen.login.port) in wanted and not is_expired(bundle, self.clock()):
            return Ended.ORDERED
        return None

    def _end(self, due: list[tuple[Seen, Ended]]) -> None:
        outcomes = processes.end([seen.tree for seen, _ in due]) if due else {}
        for seen, why in due:
            self._has_ended(seen, why, outcomes[seen.tree.monitor])

    def _has_ended(self, seen: Seen, why: Ended, outcome: processes.Outcome) -> None:
        process, login, count = seen.tree.monitor, seen.login, outcome.ended
        if count or not seen.over:
            _LOG.warning("ended a login of %s: %s, %d processes", login.login, why.value, count)
        if seen.over and count:
            detail = f"{count} processes of a login of {login.login} were there after its end (id {login.id})"
            self.report(make_report(Alarm("outlived", detail, self.clock())))
        if outcome.gone:
            if not seen.over:
                self.report(make_report(Logout(login.id, self.clock(), why, count)))
            self._is_over(replace(seen, why=why.value))
            return
        if not seen.why:  # said once, and tried again at each look
            detail = f"not every process of a login of {login.login} can be ended"
            self.report(make_report(Alarm("not_ended", detail, self.clock())))
        self.gone.pop(process, None)
        self.seen[process] = replace(seen, why=why.value)

    def _is_revoked(self, seen: Seen) -> bool:
        krl, trust = self._list(), self.held.trust
        if krl is None or trust is None:
            return False
        ca = next((key.blob for key in trust.user if key.fingerprint == seen.login.ca), b"")
        return krl.has_certificate(bytes.fromhex(seen.key), ca, seen.login.serial, seen.login.key_id.encode())

    def _list(self) -> Krl | None:
        bundle = self.held.bundle
        if bundle is None or self.held.krl is None:
            return None
        if self._krl[0] != bundle.krl:
            self._krl = (bundle.krl, parse_krl(self.held.krl))
        return self._krl[1]

    def _look_behind(self) -> None:
        """Of each grant that has ended, once nobody of it is in any more."""
        bundle, now = self.held.bundle, self.clock()
        ended = frozenset(bundle.ended_grants) if bundle else frozenset()
        within = {(seen.grant, seen.login.login) for seen in self.seen.values()}
        left = BEHIND_A_LOOK
        for key, stay in list(self.stays.items()):
            if key[0] in ended and key not in within and left:
                left -= 1
                del self.stays[key]
                items = tuple(self.changed(stay.login, stay.since))
                if items:
                    self.report(make_report(LeftBehind(stay.login_id, stay.login, stay.key_id, now, items)))
            elif key not in within and now - stay.seen_at > GRANTS_FOR:
                del self.stays[key]

    # ---- a restart ----

    def save(self) -> None:
        now = (dict(self.seen), dict(self.gone), dict(self.stays))
        if now == self._saved:
            return
        known = {
            "boot": processes.boot_id(),
            "seen": [asdict(each) for each in self.seen.values()],
            "gone": [asdict(each) for each in self.gone.values()],
            "stays": [[grant, asdict(stay)] for (grant, _), stay in self.stays.items()],
        }
        durable.put(self.state / FILE, json.dumps(known).encode(), durable.PRIVATE)
        self._saved = now

    def load(self) -> None:
        """What an agent before this one knew. A file that is torn or of another start of the machine is as none."""
        try:
            data = durable.get(self.state / FILE, _FILE_MAX)
            found = read_json(data, FILE) if data else None
            if not isinstance(found, dict):
                return
            self.stays = {(grant, stay["login"]): Stay(**stay) for grant, stay in found["stays"]}
            if found["boot"] == processes.boot_id():
                self.seen = _taken_up(found["seen"])
                self.gone = _taken_up(found.get("gone", []))
        except (Error, KeyError, TypeError, ValueError) as error:
            _LOG.warning("%s cannot be read: %s", FILE, error)


def _taken_up(rows: Iterable[dict[str, object]]) -> dict[Process, Seen]:
    found = {}
    for row in rows:
        fields, tree = dict(row["login"]), dict(row["tree"])  # type: ignore[call-overload]  # as `save` wrote them
        login = Login(**fields | {"how": How(fields["how"])})
        kept = Tree(Process(**tree["monitor"]), tree["audit"], tree["scope"])
        found[kept.monitor] = Seen(**row | {"login": login, "tree": kept})  # type: ignore[arg-type]  # as above
    return found
