"""Logins on this host while they last: who is in, by what, and which of them have to end.

A login ends here when it was made by a certificate of the realm's user CA and its grant has ended or the certificate
was revoked, by the bundle that is in force; and when the service names this very login, by the id that this agent gave
it and its port, in a bundle that has not run out. Nothing else ends anybody. What is ended is the login's own processes
(processes.py), also when its connection has gone and only something that detached itself is left.

What is known survives a restart of the agent (`logins.json`), not one of the machine: process numbers are new then.
"""

import json
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from jitgate.agent import durable, processes
from jitgate.agent.accepted import Accepted, grant_of
from jitgate.agent.held import Held
from jitgate.agent.processes import Process, Tree
from jitgate.core.clock import DAY, Clock, Micros
from jitgate.core.errors import Error
from jitgate.core.fields import read_json
from jitgate.sessions.agent_wire import Report
from jitgate.sessions.bundle import is_expired
from jitgate.sessions.host_login import Alarm, Ended, How, LeftBehind, Login, Logout, make_report
from jitgate.ssh.krl import Krl, parse_krl

FILE: Final = "logins.json"
LOGINS_MAX: Final = 4096  # of one host at a time; of more the newest are reported, and not kept
GRANTS_FOR: Micros = 40 * DAY  # a grant that is not heard of for so long is forgotten
_FILE_MAX: Final = 8 << 20
_TOGETHER: Final = 8  # logins that are ended at a time
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
    stays: dict[tuple[str, str], Stay] = field(default_factory=dict)
    _krl: tuple[str, Krl | None] = ("", None)
    _saved: str = ""

    # ---- who is in ----

    def entered(self, told: Accepted, *, verified: bool = True) -> Seen | None:
        """Somebody got in; None for one that is known already, is over already, or is no sshd's."""
        found = processes.stat(told.pid)
        if found is None or not processes.is_sshd(told.pid) or told.started not in (0, found.process.started):
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

    def look(self) -> None:
        """Marks that came late, logins that have ended, and those that have to. Blocks for as long as ending takes."""
        for process, seen in list(self.seen.items()):
            if (tree := processes.marked(seen.tree)) != seen.tree:
                self.seen[process] = replace(seen, tree=tree)
        due = [(process, why) for process, seen in self.seen.items() if (why := self.reason(seen))]
        if due:
            with ThreadPoolExecutor(min(_TOGETHER, len(due))) as pool:
                list(pool.map(lambda each: self._end(*each), due))
        for process in [each for each, seen in self.seen.items() if not processes.members(seen.tree)]:
            seen = self.seen.pop(process)
            self.report(make_report(Logout(seen.login.id, self.clock(), Ended.ITSELF)))
        self._look_behind()
        self.save()

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

    def _end(self, process: Process, why: Ended) -> None:
        seen = self.seen[process]
        count, gone = processes.end(seen.tree)
        _LOG.warning("ended a login of %s: %s, %d processes", seen.login.login, why.value, count)
        if gone:
            self.seen.pop(process, None)
            self.report(make_report(Logout(seen.login.id, self.clock(), why, count)))
        elif not seen.why:  # said once, and tried again at each look
            self.seen[process] = replace(seen, why=why.value)
            detail = f"not every process of a login of {seen.login.login} can be ended"
            self.report(make_report(Alarm("not_ended", detail, self.clock())))

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
        for key, stay in list(self.stays.items()):
            if key[0] in ended and key not in within:
                del self.stays[key]
                items = tuple(self.changed(stay.login, stay.since))
                if items:
                    self.report(make_report(LeftBehind(stay.login_id, stay.login, stay.key_id, now, items)))
            elif key not in within and now - stay.seen_at > GRANTS_FOR:
                del self.stays[key]

    # ---- a restart ----

    def save(self) -> None:
        text = json.dumps(
            {
                "boot": processes.boot_id(),
                "seen": [asdict(each) for each in self.seen.values()],
                "stays": [[grant, asdict(stay)] for (grant, _), stay in self.stays.items()],
            }
        )
        if text != self._saved:
            durable.put(self.state / FILE, text.encode(), durable.PRIVATE)
            self._saved = text

    def load(self) -> None:
        """What an agent before this one knew. A file that is torn or of another start of the machine is as none."""
        try:
            data = durable.get(self.state / FILE, _FILE_MAX)
            found = read_json(data, FILE) if data else None
            if not isinstance(found, dict):
                return
            self.stays = {(grant, stay["login"]): Stay(**stay) for grant, stay in found["stays"]}
            if found["boot"] == processes.boot_id():
                self._take_up(found["seen"])
        except (Error, KeyError, TypeError, ValueError) as error:
            _LOG.warning("%s cannot be read: %s", FILE, error)

    def _take_up(self, rows: Iterable[dict[str, object]]) -> None:
        for row in rows:
            fields, tree = dict(row["login"]), dict(row["tree"])  # type: ignore[call-overload]  # as `save` wrote them
            login = Login(**fields | {"how": How(fields["how"])})
            kept = Tree(Process(**tree["monitor"]), tree["audit"], tree["scope"])
            self.seen[kept.monitor] = Seen(**row | {"login": login, "tree": kept})  # type: ignore[arg-type]  # as above
