"""Where each request to the signer is judged, listed and only then signed.

For each certificate, in order: it parses exactly; its authority is a key that we hold, for that realm; its subject is
none of our own keys; it breaks no ceiling; its serial was never signed under that key; its key's rate allows it. Then
the whole batch goes to the list with one sync, and then the keys sign.

Serials: each key remembers the serials of this run above a floor, and the floor. At a start the floor is the highest
serial in the list; it is raised to the middle whenever the memory is full. A serial at or below the floor is refused,
whether it was used or not: serials count up, so what is refused wrongly was reserved long ago, or before a restart.

Checkpoints: of our own origin only, and only of a log that is larger than the one signed last, or the same. So one
signer never vouches for two histories of one length; that a longer one continues the shorter is `audit verify`'s part.
"""

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from jitgate.adapters.custody.port import SigningKey
from jitgate.adapters.signers.statements import open_statements, raw_signature
from jitgate.audit.checkpoint import parse_body
from jitgate.ca.ceilings import broken, next_slot, used_ahead
from jitgate.ca.model import (
    HeldAgentKeys,
    HeldKey,
    HeldKeys,
    LogHead,
    RefusedFile,
    SignedEntry,
    SignerRefusal,
    SignRequest,
)
from jitgate.ca.mounts import FOLDER, MountCeiling
from jitgate.ca.places import is_place
from jitgate.ca.rules import Ceiling, Rules, kind_of
from jitgate.ca.signed import MARK_EVERY, Summary, entry_line, head_line, mark_line
from jitgate.core.clock import SECOND, Clock, Micros
from jitgate.core.errors import BadInput, Error, Unsafe
from jitgate.core.outcome import Check, failed
from jitgate.ssh.cert import CertificateBody, parse_to_be_signed
from jitgate.ssh.private import SoftwareKey, generate_ed25519
from jitgate.ssh.pubkey import Algorithm, PublicKey

BATCH_MOST: Final = 15 * SECOND  # for the signatures of one message; the service waits 30 s for its answer
KEPT_MAX: Final = 3  # keys that were replaced under one name and are still in memory
SERIALS_KEPT: Final = 100_000  # about 10 MB a key; a window far wider than the blocks that processes hold in reserve


@dataclass(slots=True)
class _Held:
    file: str
    key: SigningKey
    fingerprint: str
    ceiling: Ceiling
    floor: int
    seen: set[int] = field(default_factory=set)
    free_at: Micros = 0
    kept: bool = False

    def knows(self, serial: int) -> bool:
        return serial <= self.floor or serial in self.seen

    def take(self, serial: int) -> None:
        self.seen.add(serial)
        if len(self.seen) > SERIALS_KEPT:
            kept = sorted(self.seen)[SERIALS_KEPT // 2 :]
            self.floor, self.seen = kept[0] - 1, set(kept)

    @property
    def highest(self) -> int:
        return max(self.seen, default=self.floor)


@dataclass(slots=True)
class _Accepted:
    place: int
    held: _Held
    tbs: bytes


class Desk:
    """The signer's state. Not thread-safe: one loop asks it.

    `keys`: private keys by file name, the log's among them. `append` makes lines durable and raises `OSError` if it
    cannot; the desk must then not be used again. `clock` is the wall clock, `tick` a monotonic one in microseconds.
    """

    def __init__(
        self,
        rules: Rules,
        keys: Mapping[str, SigningKey],
        before: Summary,
        append: Callable[[list[bytes]], None],
        *,
        clock: Clock,
        tick: Clock,
    ) -> None:
        self._log, self._origin = keys[rules.log_key], rules.origin
        if self._log.public.algorithm is not Algorithm.ED25519:
            raise Unsafe("the log key is not an ed25519 key", "a checkpoint has no other kind of signature")
        self._rules, self._serials, self._head = rules, dict(before.serials), before.head
        self._statements = open_statements(rules, keys, clock=clock, tick=tick)
        self._held: dict[PublicKey, _Held] = {}
        self.refused: dict[str, RefusedFile] = {}
        """Files that are not used, by name; whoever looks into the folder keeps it."""
        self.lost: dict[str, RefusedFile] = {}
        """Keys whose keeper is away, in the same way."""
        self.rules_refused: RefusedFile | None = None
        """A text of the rules that is not followed."""
        self.mounts_refused: tuple[RefusedFile, ...] = ()
        self.keep: Callable[[str, SoftwareKey], bool] = lambda _file, _key: True
        """Makes a mount's new key durable; False if a file of that name is there."""
        self._append, self._clock, self._tick = append, clock, tick
        self._rates, self._times = dict(before.rates), dict(before.times)
        for name, key in keys.items():
            if name not in rules.other_files():
                self.hold(name, key)
        self._since_mark = 0
        append([self._mark()])  # shows at once whether the list can be written

    def hold(self, file: str, key: SigningKey) -> None:
        """Sign with the key in this file, within what its table allows. The one that was in it before is kept.

        Raises `Unsafe` for a key that another file holds, or that no table means.
        """
        ceiling = self._rules.ceiling_of(file)
        if ceiling is None:
            raise Unsafe(f"no table of signer.toml means the file {file}", "name it in `keys`, and restart")
        there = self._held.get(key.public)
        if there and is_place(file) and not is_place(there.file) and there.ceiling == ceiling:
            there.file, there.key = file, key  # moved there: the file, still to be taken away, counts no more
        if key.public in self._others() or (there and (there.file != file)):
            raise Unsafe("two files hold the same key", "each realm and kind, and the log, has keys of its own")
        before = [each for each in self._held.values() if each.file == file and each is not there]
        if len(before) > KEPT_MAX:
            raise Unsafe(f"the file {file} was replaced {KEPT_MAX} times", "a restart forgets the keys before")
        for each in before:
            each.kept = True
        if there:
            there.kept = False
            return
        mark = key.public.fingerprint
        held = self._held[key.public] = _Held(file, key, mark, ceiling, self._serials.get(mark, 0))
        ahead = used_ahead(self._rates.pop(mark, 0), self._times.pop(mark, ()), ceiling, self._clock())
        held.free_at = self._tick() + ahead

    def follow(self, rules: Rules) -> None:
        """From now on within these rules: keys that no table means are let go, the others have their new ceilings.

        The log key and the origin stay what they were.
        """
        self._rules = rules
        for each in list(self._held.values()):
            ceiling = rules.ceiling_of(each.file)
            if ceiling is None:
                self.let_go(each.file)
            else:
                each.ceiling = ceiling

    def let_go(self, file: str) -> bool:
        """Sign no more with any key that was in this file; whether there was one."""
        gone = [key for key, each in self._held.items() if each.file == file]
        for key in gone:
            each = self._held.pop(key)
            self._serials[each.fingerprint], self._rates[each.fingerprint] = each.highest, self._free_at(each)
        return bool(gone)

    def holds(self, file: str) -> bool:
        return any(each.file == file for each in self._held.values())

    def keys(self) -> HeldKeys:
        held = tuple(
            HeldKey(each.ceiling.realm, kind_of(each.ceiling), key, each.file, each.kept)
            for key, each in self._held.items()
        )
        refused = (*(self.refused[file] for file in sorted(self.refused)), *self.lost.values(), *self.mounts_refused)
        if self.rules_refused:
            refused = (self.rules_refused, *refused)
        return HeldKeys(held, self._log.public, self._origin, self._head, refused, self._agents())

    def sign(self, requests: Sequence[SignRequest]) -> list[bytes | SignerRefusal]:
        """Signature blobs and refusals in the order of the requests; what is signed is in the list before."""
        now = self._clock()
        results: list[bytes | SignerRefusal] = []
        accepted: list[_Accepted] = []
        lines: list[bytes] = []
        for place, request in enumerate(requests):
            judged = self._judge(request, now)
            if isinstance(judged, Check):
                results.append(SignerRefusal(judged.name, judged.why, judged.hint))
                continue
            held, body = judged
            held.take(body.serial)
            results.append(b"")
            accepted.append(_Accepted(place, held, request.tbs))
            lines.append(entry_line(_entry(held, body, request.tbs, now)))
        self._list(lines)
        late = self._tick() + BATCH_MOST
        for each in accepted:
            results[each.place] = (
                _sign(each.held.key, each.tbs)
                if self._tick() < late
                else SignerRefusal("custody", "the keys' keepers were too slow", "try again; docs/custody.md")
            )
        return results

    def trust(self, payload: bytes) -> bytes | SignerRefusal:
        """The raw signature of the root key over a list of trust."""
        if self._statements is None:
            return _NO_AGENTS
        return self._statements.trust(payload, self._rules, self.keys().authorities)

    def bundle(self, payload: bytes) -> bytes | SignerRefusal:
        """The raw signature of the online key over a host's bundle."""
        return self._statements.bundle(payload, self._rules) if self._statements else _NO_AGENTS

    def _agents(self) -> HeldAgentKeys | None:
        return HeldAgentKeys(self._statements.root, self._statements.online) if self._statements else None

    def _others(self) -> list[PublicKey]:
        """Keys that are no CA's."""
        return [self._log.public, *((self._statements.root, self._statements.online) if self._statements else ())]

    def generate(self, realm: str) -> bytes | SignerRefusal:
        """The public half, as a blob, of a new key for a Vault mount. Raises `OSError` when it cannot be kept."""
        ceiling = self._rules.mount_of(realm)
        if ceiling is None:
            return SignerRefusal("mount", "no [[mount]] table of signer.toml means this realm", _MOUNT)
        mine = [each for each in self._held.values() if isinstance(each.ceiling, MountCeiling)]
        if len(mine) + len(self.mounts_refused) >= ceiling.max_keys:
            hint = "max_keys of [[mount]] in signer.toml"
            return SignerRefusal("mount", f"{len(mine)} keys of mounts are there, or are not taken", hint)
        key = generate_ed25519()
        for number in range(1, 1000):
            file = f"{FOLDER}{realm}.{number}"
            if not self.holds(file) and self._rules.ceiling_of(file) and self.keep(file, key):
                self.hold(file, key)
                return key.public.blob
        return SignerRefusal("mount", "the realm has no name for another key", "it had a thousand")

    def checkpoint(self, body: bytes) -> bytes | SignerRefusal:
        """The raw signature over a checkpoint's text."""
        try:
            found = parse_body(body)
        except BadInput as error:
            return SignerRefusal("checkpoint", error.what, error.hint)
        head = LogHead(found.size, base64.b64encode(found.root).decode())
        if body != f"{self._origin}\n{head.size}\n{head.root}\n".encode():
            return SignerRefusal("checkpoint", f"it is not of the log {self._origin}, or says more than size and root")
        if head != self._head:
            if self._head and head.size <= self._head.size:
                return SignerRefusal("checkpoint", f"size {head.size}, but {self._head.size} was signed", _FORKED)
            self._list([head_line(head, self._clock())])
            self._head = head
        signature = _sign(self._log, body)
        return signature if isinstance(signature, SignerRefusal) else raw_signature(signature)

    def _judge(self, request: SignRequest, now: Micros) -> tuple[_Held, CertificateBody] | Check:
        try:
            body, _ = parse_to_be_signed(request.tbs)
        except BadInput as error:
            return failed("malformed", error.what, error.hint)
        held = self._held.get(body.ca)
        if held is None or held.ceiling.realm != request.realm:
            return failed("authority", f"no key {body.ca.fingerprint} for the realm", "jitgate ca ls says why")
        if body.key in self._held or body.key in self._others():
            return failed("own_key", "a certificate for a key that the signer holds itself")
        if checks := broken(body, held.ceiling, now):
            return checks[0]
        if held.knows(body.serial):
            return failed("serial", f"the serial {body.serial} was used, or may have been", "take another serial")
        free_at = next_slot(held.free_at, held.ceiling, self._tick())
        if free_at is None:
            return failed(
                "rate",
                f"more than {held.ceiling.rate_per_minute} certificates a minute",
                "wait, or raise rate_per_minute",
            )
        held.free_at = free_at
        return held, body

    def _list(self, lines: list[bytes]) -> None:
        if not lines:
            return
        self._since_mark += len(lines)
        if self._since_mark >= MARK_EVERY:
            self._since_mark = 0
            lines = [*lines, self._mark()]
        self._append(lines)

    def _free_at(self, held: _Held) -> Micros:
        """By the wall's clock, which a restart does not set back to nothing."""
        return self._clock() + held.free_at - self._tick()

    def _mark(self) -> bytes:
        serials = self._serials | {each.fingerprint: each.highest for each in self._held.values()}
        rates = self._rates | {each.fingerprint: self._free_at(each) for each in self._held.values()}
        return mark_line(Summary(serials, self._head, rates), self._clock())


_MOUNT: Final = "an owner adds [[mount]] to signer.toml: docs/vault.md"


def _sign(key: SigningKey, data: bytes) -> bytes | SignerRefusal:
    """Verified before it leaves: a faulty signature could tell the private half to whoever sees it, and no one does."""
    try:
        signature = key.sign(data)
        key.public.verify(signature, data)
    except Error as error:
        return SignerRefusal("custody", error.what, error.hint)
    return signature


_NO_AGENTS: Final = SignerRefusal("no_agents", "signer.toml has no [root] and [online]", "see docs/agents.md")
_FORKED: Final = "the database is older than the log key's last signature, or was changed: jitgate audit verify"


def _entry(held: _Held, body: CertificateBody, tbs: bytes, now: Micros) -> SignedEntry:
    return SignedEntry(
        time=now,
        realm=held.ceiling.realm,
        ca=held.fingerprint,
        type=body.type,
        serial=body.serial,
        key_id=body.key_id,
        key=body.key.fingerprint,
        principals=body.principals,
        valid_before=body.valid_before,
        tbs_sha256=hashlib.sha256(tbs).hexdigest(),
    )
