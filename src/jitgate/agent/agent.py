"""The agent while it runs: what came from the service is verified, kept, applied and acknowledged.

It works without the service for as long as the host certificate lives: what sshd reads lies on the host. What it cannot
do it says, as a problem that goes with each acknowledgement and stands in `jitgate agent status`.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

from jitgate.agent import held, obey
from jitgate.agent.held import Held
from jitgate.agent.link import Link
from jitgate.agent.pins import Gateway
from jitgate.ca.envelope import Envelope
from jitgate.ca.trust import TrustVersion
from jitgate.core.clock import SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Error, NotFound, Unreachable
from jitgate.hosts.agent_wire import (
    CLOCK_MAX,
    PROBLEMS_MAX,
    REPORTS_A_MINUTE,
    Ack,
    BundleSent,
    CertificateSent,
    Dial,
    Have,
    Pong,
    Problem,
    Refused,
    Renew,
    Report,
    TrustSent,
    Unknown,
    Welcome,
)
from jitgate.hosts.bundle import Bundle, BundleVersion, is_expired
from jitgate.ssh.private import SoftwareKey

_REPORTS_MAX: Final = 1000  # kept while the service is away; then the oldest go
_RENEW_AGAIN: Final[Micros] = 600 * SECOND
_WORDS_MAX: Final = 250
_LOG: Final = logging.getLogger("jitgate.agent")


@dataclass(slots=True)
class Agent:
    """`applied_...`: the versions that are in force here. `problems`: by code, what is wrong now.

    `joined`: whether this host still is; one that leaves is not touched any more. `on_bundle`, `on_dial`: who else has
    to know. `report` tells the service something.
    """

    held: Held
    key: SoftwareKey
    clock: Clock
    joined: Callable[[], bool] = lambda: True
    applied_trust: TrustVersion | None = None
    applied_host_ca: str = ""
    applied_bundle: BundleVersion | None = None
    applied_at: Micros = 0
    problems: dict[str, Problem] = field(default_factory=dict)
    links: dict[Gateway, Link] = field(default_factory=dict)
    on_bundle: list[Callable[[Bundle], None]] = field(default_factory=list)
    on_dial: Callable[[Dial, Gateway], Awaitable[None]] | None = None
    offset: Micros = 0
    _asked_at: Micros = 0
    _told: tuple[Problem, ...] = ()
    _lacks_list: bool = False
    _reports: "deque[Report]" = field(default_factory=lambda: deque(maxlen=_REPORTS_MAX))
    _reports_left: float = REPORTS_A_MINUTE
    _reported_at: float = 0.0
    _work: asyncio.Lock = field(default_factory=asyncio.Lock)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    def have(self) -> Have:
        """What is in force, and not only kept."""
        known = self.held.have()
        has_list = self.applied_bundle is not None and not self._lacks_list
        return Have(self.applied_bundle, self.applied_trust, known.krl if has_list else "", self.applied_host_ca)

    # ---- the service ----

    async def serve(self, link: Link) -> None:
        """Takes what comes on one connection, until it ends."""
        self.links[link.gateway] = link
        try:
            self._compare_clocks(link.welcome.clock)
            await self.acknowledge()
            await self.send_reports()
            while True:
                await self._take(link, await link.receive())
        finally:
            if self.links.get(link.gateway) is link:
                del self.links[link.gateway]

    async def _take(self, link: Link, message: object) -> None:
        match message:
            case TrustSent(envelope):
                await self._apply("trust", self._take_trust, envelope)
            case BundleSent(envelope, krl):
                await self._apply("bundle", self._take_bundle, envelope, krl)
                if self._lacks_list and krl is None:
                    raise Unreachable("a bundle names a revocation list that is not here", "asking for it anew")
            case CertificateSent(line):
                await self._apply("certificate", self._take_certificate, line)
            case Pong(clock) | Welcome(clock):
                self._compare_clocks(clock)
            case Dial() if self.on_dial:
                task = asyncio.ensure_future(self.on_dial(message, link.gateway))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            case Refused(code, detail, hint):
                raise NotFound(f"the service ends the connection: {detail[:_WORDS_MAX]}", hint[:_WORDS_MAX], code=code)
            case Unknown(kind):
                self.trouble("unknown_message", f"the service sends {kind!r:.40}, which this agent does not know")

    async def _apply(self, what: str, act: Callable[..., None], *arguments: object) -> None:
        """One at a time, beside the loop: the script takes seconds. What goes wrong is told and changes nothing."""
        async with self._work:
            try:
                await asyncio.to_thread(act, *arguments)
            except Error as error:
                if error.code == "same_version":
                    self.well(f"refused_{what}")
                else:
                    self.trouble(f"refused_{what}", f"{error.code}: {error.what}")
            except Exception as error:  # noqa: BLE001  # a message that breaks us must not do so at each start again
                _LOG.exception("a %s could not be taken", what)
                self.trouble(f"refused_{what}", f"crashed: {type(error).__name__}")
            else:
                self.well(f"refused_{what}")
        await self.acknowledge()

    def _take_trust(self, envelope: Envelope) -> None:
        try:
            held.accept_trust(self.held, envelope)
        except BadInput as error:
            if error.code != "same_version" or self.applied_trust == (self.held.trust and self.held.trust.version):
                raise
        self.install()

    def _take_bundle(self, envelope: Envelope, krl: bytes | None) -> None:
        try:
            bundle, found = held.check_bundle(self.held, envelope, krl)
        except BadInput as error:
            if error.code == "same_version":
                self.put_revoked()
            self._lacks_list = error.code == "other_krl"
            raise
        self._lacks_list = False
        try:
            held.keep_bundle(self.held, envelope, bundle, found)
            self.well("state")
        except Error as error:  # what is revoked takes effect all the same
            self.trouble("state", error.what)
        self.put_revoked()
        for told in self.on_bundle:
            told(bundle)

    def _take_certificate(self, line: str) -> None:
        held.accept_certificate(self.held, line, self.clock(), key_line=self.key.public.line())
        self.install()

    # ---- the host ----

    def install(self) -> None:
        """sshd's settings as they have to be. `Error` becomes a problem, and what was in force stays so."""
        trust, certificate = self.held.trust, self.held.certificate
        if trust is None or certificate is None or not self.joined():
            return
        try:
            obey.install(self.held)
        except Error as error:
            self.trouble("install", error.what)
        else:
            self.well("install")
            self.applied_trust, self.applied_at = trust.version, self.clock()
            self.applied_host_ca = certificate.body.ca.fingerprint

    def put_revoked(self) -> None:
        """The revocation list as it has to be; the bundle counts as applied only then."""
        if not self.held.pins.sshd.drop_in.exists() or not self.joined():
            return
        try:
            obey.put_revoked(self.held)
        except Error as error:
            self.trouble("krl", error.what)
        else:
            self.well("krl")
        bundle = self.held.bundle
        if bundle and bundle.version != self.applied_bundle and obey.is_revoked_in_place(self.held):
            self.applied_bundle, self.applied_at = bundle.version, self.clock()

    async def refresh(self, *, install: bool = False) -> None:
        """The same again, after something changed on the host or could not be done."""
        before = self.have()
        async with self._work:
            await asyncio.to_thread(self.put_revoked)
            if install:
                await asyncio.to_thread(self.install)
        if self.have() != before:
            await self.acknowledge()

    def look(self) -> None:
        """What changes with time: called every few seconds."""
        now, bundle, certificate = self.clock(), self.held.bundle, self.held.certificate
        if bundle and is_expired(bundle, now):
            self.trouble("expired_bundle", "the service was not heard for too long: revocations may be missing")
        else:
            self.well("expired_bundle")
        if certificate and now >= certificate.body.valid_before * SECOND:
            self.trouble("host_certificate", "the host certificate has ended")
        else:
            self.well("host_certificate")

    async def renew(self) -> None:
        """Asks for a host certificate at two thirds of the old one's life, or when it is not by the first key of the
        list: that one signs. And again while none comes."""
        now, certificate, trust = self.clock(), self.held.certificate, self.held.trust
        by_first = not (certificate and trust and trust.host) or certificate.body.ca == trust.host[0]
        if certificate and by_first and now < held.renew_at(certificate):
            return
        if now >= self._asked_at + _RENEW_AGAIN and (link := next(iter(self.links.values()), None)):
            self._asked_at = now
            await self._send(link, Renew())

    # ---- words ----

    def trouble(self, code: str, detail: str) -> None:
        problem = Problem(code, "".join(c if c.isprintable() else "?" for c in detail)[:_WORDS_MAX])
        if self.problems.get(code) != problem:
            self.problems[code] = problem
            _LOG.error("problem %s: %s", code, problem.detail)

    def well(self, code: str) -> None:
        if self.problems.pop(code, None):
            _LOG.info("mended %s", code)

    def report(self, report: Report) -> None:
        """To the service, now or when it is reached; of too many the oldest are dropped."""
        self._reports.append(report)

    async def acknowledge(self) -> None:
        """What is in force and what is wrong, to whoever is connected."""
        self._told = tuple(self.problems.values())
        ack = Ack(self.have(), self.applied_at, self._told[:PROBLEMS_MAX])
        for link in list(self.links.values()):
            await self._send(link, ack)

    async def send_reports(self) -> None:
        """Those that wait, to whoever is connected, as fast as the service takes them; the rest a little later."""
        now = asyncio.get_running_loop().time()
        earned = (now - self._reported_at) * REPORTS_A_MINUTE / 60
        self._reports_left = min(REPORTS_A_MINUTE, self._reports_left + earned)
        self._reported_at = now
        while self._reports and self._reports_left >= 1 and (link := next(iter(self.links.values()), None)):
            self._reports_left -= 1
            await self._send(link, self._reports.popleft())

    async def tick(self) -> None:
        """Every few seconds."""
        self.look()
        await self.renew()
        await self.send_reports()
        if tuple(self.problems.values()) != self._told:
            await self.acknowledge()

    async def _send(self, link: Link, message: Ack | Renew | Report) -> None:
        try:
            await link.send(message)
        except OSError as error:  # its reader finds out too, and connects again
            _LOG.warning("%s: %s", link.gateway.address, error)

    def _compare_clocks(self, theirs: Micros) -> None:
        self.offset = theirs - self.clock()
        if abs(self.offset) > CLOCK_MAX:
            self.trouble("clock", f"this host's clock is {abs(self.offset) // SECOND} s off the service's")
        else:
            self.well("clock")
