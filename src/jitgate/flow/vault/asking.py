"""One request to the Vault surface, and whether its token may make it.

Whether a token is in force, and what its policies allow, is read in the very transaction that does the act: nothing
that began before a token, a policy or a person was taken away is done after it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal, TypeVar

from jitgate.audit.events import Actor, Event, EventType
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.core.errors import BadInput, Denied, Error, NotSignedIn
from jitgate.core.secret import Secret
from jitgate.flow.outside import Outside
from jitgate.flow.ports import Tx
from jitgate.flow.vault.settings import SETTING
from jitgate.identity.model import Person
from jitgate.identity.vault import TOKEN, Mount, VaultToken, in_force, parse_secret, secret_hash
from jitgate.policy.vault_acl import DEFAULT, DEFAULT_POLICY, ROOT, Rule, capabilities, parse_policy

T = TypeVar("T")
Operation = Literal["read", "list", "write", "delete"]
Json = dict[str, object]
DEFAULT_RULES: tuple[Rule, ...] = parse_policy(DEFAULT_POLICY)
UNKNOWN = Actor("unknown")
_NEEDS = {"read": ("read",), "list": ("list",), "delete": ("delete",)}


@dataclass(frozen=True, slots=True)
class Holder:
    """Who makes the request: a token in force and its person, as of the transaction that says so."""

    token: VaultToken
    person: Person

    @property
    def root(self) -> bool:
        return ROOT in self.token.policies

    @property
    def actor(self) -> Actor:
        return Actor(self.token.kind.value, self.person.id, self.person.name)


@dataclass(frozen=True, slots=True)
class Asked:
    """`path`: without the version in front, checked to be plain. `name`, `rest`: what its route found in it.

    `unverified_token` empty: a stranger. `sudo`: its route needs that too."""

    operation: Operation
    path: str
    data: Mapping[str, object]
    source: str
    unverified_token: Secret[str] = field(repr=False)
    mount: Mount | None = None
    name: str = ""
    sudo: bool = False
    counted: bool = False
    """One use of a token that has a number of them was taken for it."""
    new: Callable[[Tx], bool] = field(default=lambda _tx: False, repr=False)
    """Whether what would be written is not there yet: `create` is enough for that."""

    def of_mount(self) -> Mount:
        if self.mount is None:
            raise BadInput(f"unsupported path {self.path}")
        return self.mount


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client reads: `data` and `auth` as Vault has them, `warnings` for whoever ran the command."""

    data: Mapping[str, object] | None = None
    auth: Mapping[str, object] | None = None
    warnings: tuple[str, ...] = ()
    status: int = 200
    bare: Mapping[str, object] | str | None = None
    """An answer that is not in the usual envelope: health, and a public key as text."""
    beside: bool = False
    """Vault repeats what is in `data` beside it for some paths, for old clients."""


NOTHING = Answer(status=204)


def holder_of(tx: Tx, outside: Outside, asked: Asked) -> Holder:
    """`NotSignedIn` unless the token is in force."""
    hashed = secret_hash(parse_secret(asked.unverified_token.reveal(), TOKEN))
    token = tx.vault.token_by_hash(hashed)
    person = tx.people.by_id(token.person_id) if token else None
    token = in_force(token, person, outside.clock(), counted=asked.counted)
    if person is None or (ROOT in token.policies and not person.admin):  # no admin any more
        raise NotSignedIn("permission denied", "log in again", code="vault_token")
    return Holder(token, person)


def allowed(tx: Tx, outside: Outside, asked: Asked) -> Holder:
    """The holder, if their policies allow the request now. Raises `NotSignedIn`, `Denied`."""
    holder = holder_of(tx, outside, asked)
    if (refused := _refusal(tx, asked, holder)) is not None:
        raise refused
    return holder


def _refusal(tx: Tx, asked: Asked, holder: Holder) -> Denied | None:
    """What the holder's policies have against the request, as they are now."""
    if holder.root:
        return None
    found = capabilities(rules_of(tx, holder.token.policies), asked.path, listing=asked.operation == "list")
    needed = _NEEDS.get(asked.operation) or (("update", "create") if asked.new(tx) else ("update",))
    if not found & set(needed) or (asked.sudo and "sudo" not in found):
        return Denied("permission denied", f"no policy of the token allows it on {asked.path}", code="vault_policy")
    return None


def rules_of(tx: Tx, names: tuple[str, ...]) -> list[tuple[Rule, ...]]:
    """Of the policies of these names as they are now; one that is gone allows nothing."""
    found = []
    for name in names:
        entry = tx.vault.entry("", "policy", name)
        if entry is not None:
            found.append(parse_policy(str(entry.body["policy"])))
        elif name == DEFAULT:
            found.append(DEFAULT_RULES)
    return found


async def read(outside: Outside, asked: Asked, job: Callable[[Tx, Holder], T]) -> T:
    return await outside.store.read(lambda tx: job(tx, allowed(tx, outside, asked)))


async def write(outside: Outside, asked: Asked, job: Callable[[Tx, Holder], T]) -> T:
    return await outside.store.write(lambda tx: job(tx, allowed(tx, outside, asked)))


async def let_in(outside: Outside, asked: Asked, *, by_policy: bool) -> tuple[Asked, Holder]:
    """Before anything is said of what was sent: the token, its person's rate (which what is refused counts for too),
    what its policies allow, its number of uses. The request as it goes on, and for the record who made it: the act
    asks both again. Raises `NotSignedIn`, `Denied`, `TooMany`.
    """

    def job(tx: Tx) -> tuple[Holder, Denied | None]:
        holder = holder_of(tx, outside, asked)
        return holder, _refusal(tx, asked, holder) if by_policy else None

    holder, refused = await outside.store.read(job)
    outside.rates.take(holder.person.id, outside.clock())
    if refused is not None:
        raise refused
    if holder.token.uses_left is None:
        return asked, holder
    if not await outside.store.write(lambda tx: tx.vault.use_token(holder.token.id)):
        raise NotSignedIn("permission denied", "log in again", code="vault_token")
    return replace(asked, counted=True), holder


def said(
    outside: Outside,
    kind: EventType,
    holder: Holder | None,
    asked: Asked,
    *detail: tuple[str, str | int],
    realm: str = DEFAULT_REALM,
    target: str = "",
    subject: Person | None = None,
) -> Event:
    """An event of the surface: it carries the setting's name."""
    refused = kind is EventType.VAULT_REFUSED
    outcome: Literal["allowed", "refused", "done"] = (
        "refused" if refused else "allowed" if kind is EventType.VAULT_TOKEN_MADE else "done"
    )
    return Event(
        kind,
        outcome,
        outside.clock(),
        realm,
        holder.actor if holder else UNKNOWN,
        target=target,
        subject=subject.id if subject else "",
        subject_name=subject.name if subject else "",
        source=asked.source,
        detail=(*detail, ("setting", SETTING)),
    )


async def who(outside: Outside, asked: Asked) -> Holder | None:
    """Whose token is in force, for the record; None: a stranger's."""

    def job(tx: Tx) -> Holder | None:
        try:
            return holder_of(tx, outside, asked)
        except Error:
            return None

    return await outside.store.read(job)


async def record_refusal(outside: Outside, asked: Asked, error: Error) -> bool:
    """A decision's no. Those of one address, or of one token's person, are counted after the first of a minute: whether
    it was the first."""
    known = await who(outside, asked)
    path = asked.path if known else ""  # a stranger's words are not kept
    detail = (("code", error.code), ("operation", asked.operation), ("path", path))
    event = said(outside, EventType.VAULT_REFUSED, known, asked, *detail)
    first = outside.floods.is_first(asked.source, event.type, event.time, event.actor)
    if first:
        await outside.store.write(lambda tx: tx.log.append(event))
    return first


def text(asked: Asked, name: str, default: str = "") -> str:
    value = asked.data.get(name, default)
    if value is None:
        return default
    if not isinstance(value, str):
        raise BadInput(f"{name} is no text")
    return value


def only(asked: Asked, known: frozenset[str]) -> None:
    """`BadInput` for a field that is not known: a restriction that is passed over would be none."""
    if unknown := sorted(set(asked.data) - known):
        raise BadInput(f"unknown field {unknown[0][:60]!r}", f"known are {', '.join(sorted(known))}")
