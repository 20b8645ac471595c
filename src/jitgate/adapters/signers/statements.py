"""What the signer says to hosts: lists of trust by the root key, bundles by the online key. It judges each itself.

A list of trust: it is in its canonical form; each key in it is one that the signer holds for that realm and kind, or
one that its own file names as trusted there; the online key is its own; it was made now; and its version is not below
that of the last one of the realm. So a service that somebody took over cannot make hosts trust a CA key of theirs.

A bundle: it is in its canonical form, was made now, ends within a week, and the key's rate allows it. There is nothing
in it that could open something.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from jitgate.adapters.custody.port import SigningKey
from jitgate.adapters.signers.files import load_key
from jitgate.ca import trust
from jitgate.ca.ceilings import next_slot
from jitgate.ca.envelope import signed_message
from jitgate.ca.model import HeldKey, SignerRefusal
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import Rules, kind_of
from jitgate.ca.trust import TrustList, TrustVersion, take_trust
from jitgate.core.clock import DAY, MINUTE, Clock, Micros
from jitgate.core.errors import BadInput, Unsafe
from jitgate.core.fields import canonical, read_json
from jitgate.hosts import bundle
from jitgate.hosts.bundle import take_bundle
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, PublicKey
from jitgate.ssh.wire import Reader

OFF_MAX: Final[Micros] = 5 * MINUTE  # between when it was made and now: a queue, and two clocks of one machine
BUNDLE_LIFE_MAX: Final[Micros] = 7 * DAY


class Statements:
    """The two keys. Not thread-safe, like the desk."""

    def __init__(self, root: SigningKey, online: SigningKey, *, clock: Clock, tick: Clock) -> None:
        for key in (root, online):
            if key.public.algorithm is not Algorithm.ED25519:
                raise Unsafe("the root key and the online key are ed25519 keys", "ssh-keygen -t ed25519")
        if root.public == online.public:
            raise Unsafe("the root key and the online key are the same", "make two")
        self._root, self._online = root, online
        self._clock, self._tick = clock, tick
        self._free_at: Micros = 0
        self._last: dict[str, TrustVersion] = {}

    @property
    def root(self) -> PublicKey:
        return self._root.public

    @property
    def online(self) -> PublicKey:
        return self._online.public

    def trust(self, payload: bytes, rules: Rules, held: Sequence[HeldKey]) -> bytes | SignerRefusal:
        """The raw signature over a list of trust."""
        try:
            found = take_trust(_read(payload, trust.PAYLOAD_MAX))
        except BadInput as error:
            return SignerRefusal("malformed", error.what, error.hint)
        if found.online != self.online:
            return SignerRefusal("online_key", "the online key is not the signer's own", "jitgate ca ls")
        if {self.root, self.online} & {*found.keys()}:
            return SignerRefusal("own_key", "the root key and the online key are no CA keys")
        if (stranger := _stranger(found, rules, held)) is not None:
            return stranger
        if self._is_off(found.made_at):
            return SignerRefusal("clock", "it was not made now", "check the clocks")
        if found.version < self._last.get(found.realm, found.version):
            return SignerRefusal("old_version", f"version {list(found.version)}, but a later one was signed")
        self._last[found.realm] = found.version
        return _raw(self._root, signed_message(trust.DOMAIN, payload))

    def bundle(self, payload: bytes, rules: Rules) -> bytes | SignerRefusal:
        """The raw signature over a bundle."""
        try:
            found = take_bundle(_read(payload, bundle.PAYLOAD_MAX))
        except BadInput as error:
            return SignerRefusal("malformed", error.what, error.hint)
        if self._is_off(found.made_at) or found.expires_at - found.made_at > BUNDLE_LIFE_MAX:
            return SignerRefusal("clock", "it was not made now, or lives for more than a week", "check the clocks")
        free_at = next_slot(self._free_at, rules.agents, self._tick()) if rules.agents else None
        if free_at is None:
            return SignerRefusal("rate", "more bundles than [online] in signer.toml allows", "wait, or raise it")
        self._free_at = free_at
        return _raw(self._online, signed_message(bundle.DOMAIN, payload))

    def _is_off(self, made_at: Micros) -> bool:
        return abs(made_at - self._clock()) > OFF_MAX


def load_agent_keys(folder: Path, rules: Rules) -> dict[str, SoftwareKey]:
    """The files of the two keys, by name. Raises what is wrong with them."""
    if rules.agents is None:
        return {}
    return {name: load_key(folder, name) for name in (rules.agents.root, rules.agents.online)}


def open_statements(rules: Rules, keys: Mapping[str, SigningKey], *, clock: Clock, tick: Clock) -> Statements | None:
    """None where the rules name no such keys. `keys`: by file name."""
    if rules.agents is None:
        return None
    return Statements(keys[rules.agents.root], keys[rules.agents.online], clock=clock, tick=tick)


def _stranger(found: TrustList, rules: Rules, held: Sequence[HeldKey]) -> SignerRefusal | None:
    for kind in CaKind:
        known = {each.key for each in held if (each.realm, each.kind) == (found.realm, kind)}
        known |= {
            key for each in rules.ceilings if (each.realm, kind_of(each)) == (found.realm, kind) for key in each.trusted
        }
        for key in found.of(kind):
            if key not in known:
                what = f"{key.fingerprint} is no {kind} key of the realm {found.realm}"
                return SignerRefusal("foreign_key", what, "a key that is kept elsewhere: `trusted` in signer.toml")
    return None


def _read(payload: bytes, most: int) -> object:
    if len(payload) > most:
        raise BadInput(f"a payload of {len(payload)} bytes", f"at most {most}")
    value = read_json(payload, "a payload")
    if canonical(value) != payload:
        raise BadInput("a payload that is not in its canonical form")
    return value


def _raw(key: SigningKey, message: bytes) -> bytes:
    return raw_signature(key.sign(message))


def raw_signature(blob: bytes) -> bytes:
    """What is in an SSH signature blob behind its type."""
    reader = Reader(blob)
    reader.string()
    return reader.string()
