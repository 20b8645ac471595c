"""The signer's own file, `signer.toml`: which keys it holds and what each may sign at most.

Every line is required and no other is taken: nothing is allowed by leaving a line out, and a misspelt limit is not a
missing one.
"""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Final

from jitgate.ca.agent_keys import TABLES as AGENT_TABLES
from jitgate.ca.agent_keys import AgentKeys, read_agent_keys
from jitgate.ca.mounts import REALMS, MountCeiling, realm_of_file
from jitgate.ca.places import NOWHERE, TABLES, Places, is_place, read_places
from jitgate.ca.realms import CaKind
from jitgate.core.clock import DAY, HOUR, SECOND
from jitgate.core.errors import BadInput
from jitgate.core.text import check_name, shown
from jitgate.ssh.cert import MAX_PRINCIPALS
from jitgate.ssh.pubkey import Algorithm, PublicKey, parse_public_key_line

FILE_MAX: Final = 1 << 18  # bytes; some hundred realms
_RATE_MAX: Final = 6_000_000  # a minute: 100,000/s, more than one process signs
_LIFETIME_MAX_S: Final = 400 * DAY // SECOND
_KEY_FILE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_KEY_FILES: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,98}\*?")
_NO_KEYS: Final = (".pub", "~", ".tmp", ".new", ".swp")  # what lies beside keys, and what is becoming one
_SCOPE: Final = re.compile(r"[a-z]{1,16}")
_OPTION: Final = re.compile(r"[A-Za-z0-9@._-]{1,127}")
_PATTERN: Final = re.compile(r"\*(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){2,8}")
_REC: Final = re.compile(r"\*(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?){1,8}\.rec")
_ORIGIN: Final = re.compile(r"[a-z0-9][a-z0-9.:/_-]{0,254}")

ANY: Final = "*"


@dataclass(frozen=True, slots=True)
class UserCeiling:
    """What the user keys of one realm may sign. `keys` are file names, or beginnings of them and a `*`; `logins` may
    hold `*` for every login."""

    realm: str
    keys: tuple[str, ...]
    max_lifetime_s: int
    max_principals: int
    scopes: frozenset[str]
    logins: frozenset[str]
    denied_logins: frozenset[str]
    extensions: frozenset[str]
    critical_options: frozenset[str]
    key_algorithms: frozenset[str]
    rate_per_minute: int
    burst: int
    trusted: tuple[PublicKey, ...] = ()
    """Keys that are kept elsewhere (a backup) and may stand in lists of trust beside those that are held."""


@dataclass(frozen=True, slots=True)
class HostCeiling:
    """What the host keys of one realm may sign: for a host, its NAME and NAME + `pattern` without its `*`."""

    realm: str
    keys: tuple[str, ...]
    max_lifetime_s: int
    pattern: str
    extensions: frozenset[str]
    key_algorithms: frozenset[str]
    rate_per_minute: int
    burst: int
    trusted: tuple[PublicKey, ...] = ()


@dataclass(frozen=True, slots=True)
class InterceptionCeiling:
    """What the interception keys of one realm may sign: for a host's NAME, `NAME.rec` and NAME + `pattern` without its
    `*`, which ends in `.rec` too. No host has such a name."""

    realm: str
    keys: tuple[str, ...]
    max_lifetime_s: int
    pattern: str
    extensions: frozenset[str]
    key_algorithms: frozenset[str]
    rate_per_minute: int
    burst: int
    trusted: tuple[PublicKey, ...] = ()


FolderCeiling = UserCeiling | HostCeiling | InterceptionCeiling
"""Of keys in the folder of CA keys; a mount's are in another."""
Ceiling = FolderCeiling | MountCeiling
_CEILINGS: Final[dict[CaKind, type[UserCeiling] | type[HostCeiling] | type[InterceptionCeiling]]] = {
    CaKind.USER: UserCeiling,
    CaKind.HOST: HostCeiling,
    CaKind.INTERCEPTION: InterceptionCeiling,
}


@dataclass(frozen=True, slots=True)
class Rules:
    """`log_key`: file name; `origin`: the first line of every checkpoint that it signs."""

    ceilings: tuple[FolderCeiling, ...]
    log_key: str
    origin: str
    mounts: tuple[MountCeiling, ...] = ()
    places: Places = NOWHERE

    def mount_of(self, realm: str) -> MountCeiling | None:
        """What the keys of that realm's Vault mount may sign; None where no table means it."""
        return next((replace(each, realm=realm) for each in self.mounts if each.means(realm)), None)

    agents: AgentKeys | None = None

    def other_files(self) -> list[str]:
        """The files of keys that are no CA's."""
        return [self.log_key, *((self.agents.root, self.agents.online) if self.agents else ())]

    def files(self) -> list[str]:
        """The CA keys' files that are named whole."""
        return [file for each in self.ceilings for file in each.keys if not file.endswith(ANY) and not is_place(file)]

    def elsewhere(self) -> list[str]:
        """The CA keys that lie in no file."""
        return [name for each in self.ceilings for name in each.keys if is_place(name)]

    def ceiling_of(self, file: str) -> Ceiling | None:
        """What the key in this file may sign; None for a file that no table means. No file is meant by two."""
        if (realm := realm_of_file(file)) is not None:
            return self.mount_of(realm)
        if file in self.other_files() or not (_KEY_FILE.fullmatch(file) or is_place(file)):
            return None
        for each in self.ceilings:
            if file in each.keys:
                return each
        if file.endswith(_NO_KEYS):
            return None
        for each in self.ceilings:
            if any(file.startswith(name[:-1]) for name in each.keys if name.endswith(ANY)):
                return each
        return None


def read_rules(text: str) -> Rules:
    """The rules in the text of a `signer.toml`; `BadInput` names what is wrong with it."""
    if len(text) > FILE_MAX:
        raise BadInput(f"signer.toml has {len(text)} characters", f"at most {FILE_MAX}")
    try:
        content: dict[str, object] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"signer.toml is not TOML: {error}") from None
    _only(content, {"log", "user", "host"}, "signer.toml", {*AGENT_TABLES, CaKind.INTERCEPTION, CaKind.MOUNT, *TABLES})
    log = _table(content["log"], "[log]")
    _only(log, {"key", "origin"}, "[log]")
    ceilings: list[FolderCeiling] = []
    for kind in _CEILINGS:
        ceilings += [_ceiling(table, kind) for table in _tables(content.get(kind, []), kind)]
    mounts = tuple(_mount(table) for table in _tables(content.get(CaKind.MOUNT, []), CaKind.MOUNT))
    log_key, origin = _placed(_KEY_FILE)(log["key"]), _matching(_ORIGIN)(log["origin"])
    rules = Rules(tuple(ceilings), log_key, origin, mounts, read_places(content))
    rules = dataclasses.replace(rules, agents=read_agent_keys(content))
    _check_keys(rules)
    rules.places.check([*rules.elsewhere(), rules.log_key])
    return rules


def _tables(found: object, kind: CaKind) -> list[object]:
    if not isinstance(found, list):
        raise BadInput(f"signer.toml: {kind} is not a list of tables", f"write [[{kind}]]")
    return found


def _mount(found: object) -> MountCeiling:
    table = _table(found, "[[mount]]")
    names = {field.name for field in fields(MountCeiling)} - {"realm"}
    _only(table, names, "[[mount]]")
    values: dict[str, object] = {}
    for name in names:
        try:
            values[name] = _READERS[name](table[name])
        except BadInput as error:
            raise BadInput(f"signer.toml: [[mount]]: {name}: {error.what}", error.hint) from None
    return MountCeiling(**values)  # type: ignore[arg-type]  # each value came from its field's reader


def kind_of(ceiling: Ceiling) -> CaKind:
    if isinstance(ceiling, MountCeiling):
        return CaKind.MOUNT
    return next(kind for kind, made in _CEILINGS.items() if isinstance(ceiling, made))


def _ceiling(found: object, kind: CaKind) -> FolderCeiling:
    where, made = f"[[{kind}]]", _CEILINGS[kind]
    table = _table(found, where)
    names = {field.name for field in fields(made)}
    _only(table, names - {"trusted"}, where, {"trusted"})
    values: dict[str, object] = {}
    for name in names & table.keys():
        try:
            read = _matching(_REC) if (kind, name) == (CaKind.INTERCEPTION, "pattern") else _READERS[name]
            values[name] = read(table[name])
        except BadInput as error:
            raise BadInput(f"signer.toml: {where}: {name}: {error.what}", error.hint) from None
    return made(**values)  # type: ignore[arg-type]  # each value came from its field's reader


def _check_keys(rules: Rules) -> None:
    files = [file for each in rules.ceilings for file in each.keys] + rules.other_files()
    if twice := next((file for file in files if files.count(file) > 1), None):
        raise BadInput(f"signer.toml: the key {shown(twice)} stands there twice", "each key is for one realm and kind")
    realms = [each.realms for each in rules.mounts]
    if any(one.startswith(other.rstrip(ANY)) for one in realms for other in realms if one is not other):
        raise BadInput("signer.toml: two [[mount]] tables mean the same realms", "each mount has one table")
    if twice_trusted := _twice([key for each in rules.ceilings for key in each.trusted]):
        raise BadInput(
            f"signer.toml: the key {twice_trusted.fingerprint} is trusted twice", "each key is for one realm and kind"
        )
    begun = [[file[:-1] for file in each.keys if file.endswith(ANY)] for each in rules.ceilings]
    for place, mine in enumerate(begun):
        for one, other in ((one, other) for others in begun[place + 1 :] for other in others for one in mine):
            if one.startswith(other) or other.startswith(one):
                what = f"signer.toml: {shown(one + ANY)} and {shown(other + ANY)} mean the same files"
                raise BadInput(what, "each key is for one realm and kind")
    places = [(type(each), each.realm) for each in rules.ceilings]
    if len(set(places)) != len(places):
        raise BadInput("signer.toml: a realm has two tables of one kind", "list all its keys in one table")


def _twice(keys: list[PublicKey]) -> PublicKey | None:
    return next((key for place, key in enumerate(keys) if key in keys[:place]), None)


def _table(found: object, where: str) -> dict[str, object]:
    if not isinstance(found, dict):
        raise BadInput(f"signer.toml: {where} is not a table")
    return found


def _only(found: dict[str, object], names: Iterable[str], where: str, optional: Iterable[str] = ()) -> None:
    known = {*names, *optional}
    if unknown := sorted(found.keys() - known):
        raise BadInput(f"{where}: unknown name {shown(unknown[0])}", f"known are {', '.join(sorted(known))}")
    if missing := sorted(set(names) - found.keys()):
        raise BadInput(f"{where}: {missing[0]} is missing", "nothing is allowed by leaving a line out")


def _number(least: int, most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadInput(f"not a number from {least} to {most}")
        return value

    return read


def _matching(pattern: re.Pattern[str]) -> Callable[[object], str]:
    def read(value: object) -> str:
        if not isinstance(value, str) or not pattern.fullmatch(value):
            raise BadInput(f"not a value that is taken: {shown(str(value))}")
        return value

    return read


def _placed(pattern: re.Pattern[str]) -> Callable[[object], str]:
    """Of a key: its file, or where else it lies."""
    return lambda value: value if isinstance(value, str) and is_place(value) else _matching(pattern)(value)


def _each(read: Callable[[object], str], least: int = 0) -> Callable[[object], tuple[str, ...]]:
    def read_all(value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(value) < least:
            raise BadInput("not a list" + f" of at least {least}" * bool(least))
        return tuple(read(item) for item in value)

    return read_all


def _set(read: Callable[[object], str]) -> Callable[[object], frozenset[str]]:
    return lambda value: frozenset(_each(read)(value))


def _login(value: object) -> str:
    return ANY if value == ANY else check_name("login", str(value))


def _algorithm(value: object) -> str:
    if value not in list(Algorithm):
        raise BadInput(f"not a key type: {shown(str(value))}", f"one of {', '.join(Algorithm)}")
    return str(value)


def _public_keys(value: object) -> tuple[PublicKey, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BadInput("not a list of public keys", 'trusted = ["ssh-ed25519 AAAA... backup"]')
    return tuple(parse_public_key_line(line)[0] for line in value)


_READERS: Final[dict[str, Callable[[object], object]]] = {
    "realm": lambda value: check_name("realm", str(value)),
    "keys": _each(_placed(_KEY_FILES), 1),
    "realms": _matching(REALMS),
    "max_keys": _number(1, 1000),
    "max_lifetime_s": _number(1, _LIFETIME_MAX_S),
    "max_principals": _number(1, MAX_PRINCIPALS),
    "scopes": _set(_matching(_SCOPE)),
    "logins": _set(_login),
    "denied_logins": _set(lambda value: check_name("login", str(value))),
    "pattern": _matching(_PATTERN),
    "extensions": _set(_matching(_OPTION)),
    "critical_options": _set(_matching(_OPTION)),
    "key_algorithms": _set(_algorithm),
    "trusted": _public_keys,
    "rate_per_minute": _number(1, _RATE_MAX),
    "burst": _number(1, _RATE_MAX),
}

_HEAD: Final = """\
# What the signer's keys may sign at most, whatever the service asks for. The signer reads this file when it starts and
# whenever it changes; one with a mistake changes nothing, and jitgate ca ls says so.
# `keys` are files in the folder of CA keys; one that ends in * is every file that begins so, also one that comes later.
# Lower these to what your roles need: a service that somebody took over gets certificates within them.

[log]
key = "{log}"
origin = "{origin}"
"""

_USER: Final = """
[[user]]
realm = "{realm}"
keys = ["{key}", "{key}-*"]
max_lifetime_s = {lifetime}
max_principals = 32
# what may stand behind the @ of a principal: LOGIN@host:NAME
scopes = ["host"]
logins = ["*"]
denied_logins = []
extensions = [
  "metadata@jitgate", "permit-X11-forwarding", "permit-agent-forwarding", "permit-port-forwarding", "permit-pty",
  "permit-user-rc",
]
critical_options = ["force-command", "source-address", "verify-required"]
key_algorithms = [{algorithms}]
# of each key: so many at once, then so many a minute
burst = 20000
rate_per_minute = 3000
"""

_HOST: Final = """
[[host]]
realm = "{realm}"
keys = ["{key}", "{key}-*"]
max_lifetime_s = {lifetime}
pattern = "*.{realm}.jitgate"
extensions = []
key_algorithms = [{algorithms}]
burst = 2000
rate_per_minute = 600
"""


_INTERCEPTION: Final = """
[[interception]]
realm = "{realm}"
keys = ["{key}", "{key}-*"]
max_lifetime_s = {lifetime}
# names that no host has: NAME.rec, and NAME under this pattern
pattern = "*.{realm}.jitgate.rec"
extensions = []
key_algorithms = [{algorithms}]
burst = 2000
rate_per_minute = 600
"""


def default_rules(
    origin: str, realm: str, *, user_key: str, host_key: str, log_key: str, interception_key: str = ""
) -> str:
    """The text of the file that a new installation begins with."""
    keys = {CaKind.USER: user_key, CaKind.HOST: host_key, CaKind.INTERCEPTION: interception_key}
    return _HEAD.format(log=log_key, origin=origin) + realm_tables(realm, keys)


def realm_tables(realm: str, keys: Mapping[CaKind, str]) -> str:
    """The tables of one realm. `keys`: the first key's file for each kind; none for an empty name."""
    algorithms = "\n  " + "\n  ".join(f'"{each}",' for each in Algorithm) + "\n"
    # a person's: the longest that a role may ask for; a host's: what `jitgate host add` asks for; the gateway's: a day
    lifetimes = {CaKind.USER: 24 * HOUR, CaKind.HOST: 90 * DAY, CaKind.INTERCEPTION: DAY}
    texts = {CaKind.USER: _USER, CaKind.HOST: _HOST, CaKind.INTERCEPTION: _INTERCEPTION}
    return "".join(
        texts[kind].format(realm=realm, key=key, lifetime=lifetimes[kind] // SECOND, algorithms=algorithms)
        for kind, key in keys.items()
        if key
    )
