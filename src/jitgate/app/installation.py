"""A new installation: its folder, its keys, its database. Nothing that exists is ever overwritten."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jitgate.adapters.db.store import check_empty, create_installation, open_read_only
from jitgate.adapters.signers.files import write_key, write_new
from jitgate.app.settings import Settings
from jitgate.app.tls import login_url, make_authority
from jitgate.audit.checkpoint import parse_verifier_key, verifier_key
from jitgate.ca.agent_keys import agents_text
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.ca.rules import default_rules
from jitgate.core.clock import Clock
from jitgate.core.errors import Conflict, NotFound, Unsafe
from jitgate.core.ids import Random, is_id, new_id
from jitgate.core.secret import Secret
from jitgate.core.text import shown
from jitgate.identity.sealing import KEY_BYTES
from jitgate.ssh.private import generate_ed25519

USER_KEY, HOST_KEY, INTERCEPTION_KEY, LOG_KEY = "user_ca", "host_ca", "interception_ca", "log"
ROOT_KEY, ONLINE_KEY = "root", "online"  # what agents obey
RULES = "signer.toml"


COPIED = (RULES, "sealing.key", "log.key", "tls/ca.pem", "tls/ca.key")
"""What all nodes of an installation have alike, beside the keys; `signed/` and `node` are each node's own."""


@dataclass(frozen=True, slots=True)
class Made:
    config: Path
    login_url: str


def make_installation(config: Path, settings: Settings, clock: Clock, random: Random = os.urandom) -> Made:
    """Write settings, keys, TLS authority and database. Raises `Conflict` if any of it is there already.

    A database on a server is there before, and empty; nothing is written if it is not.
    """
    _check_new(config, settings.state)
    check_empty(settings.database_url)
    _make_state(settings.state)
    now = clock()
    origin = log_origin(settings)
    settings.keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (USER_KEY, HOST_KEY, INTERCEPTION_KEY, LOG_KEY):
        key = generate_ed25519()
        write_key(settings.keys_folder, name, key)
        if name == LOG_KEY:
            write_new(log_key_file(settings), (verifier_key(origin, key.public.blob[-32:]) + "\n").encode())
    rules = default_rules(
        origin,
        DEFAULT_REALM,
        user_key=USER_KEY,
        host_key=HOST_KEY,
        log_key=LOG_KEY,
        interception_key=INTERCEPTION_KEY,
    )
    for name in (ROOT_KEY, ONLINE_KEY):
        write_key(settings.keys_folder, name, generate_ed25519())
    rules += agents_text(ROOT_KEY, ONLINE_KEY)
    write_new(rules_file(settings), rules.encode())
    list_folder(settings).mkdir(mode=0o700)
    write_new(settings.state / "sealing.key", random(KEY_BYTES))
    write_new(_node_file(settings), f"{new_id(now, random)}\n".encode())
    if settings.self_made_tls:
        make_authority(settings, now)
    create_installation(
        settings.database_url,
        origin=origin,
        values={"installation": new_id(now, random), "epoch": "0"},
        now=now,
    )
    return _settle(config, settings)


def join_installation(config: Path, settings: Settings, other: Path, clock: Clock, random: Random = os.urandom) -> Made:
    """Make a further node of the installation whose first node has the state folder `other`, or a copy of it.

    It has the same keys and the same database, and a list and an id of its own. Raises `Conflict`, `NotFound`.
    """
    _check_new(config, settings.state)
    with open_read_only(settings.database_url) as tx:
        origin, _ = parse_verifier_key(_of(other, "log.key").decode())
        if tx.log.origin() != origin:
            what = f"{other} is a node of {shown(origin)}, and the database holds {shown(tx.log.origin())}"
            raise Conflict(what, "--database of the same installation")
    copied = [name for name in COPIED if settings.self_made_tls or not name.startswith("tls/")]
    if not settings.ca_keys:
        copied += [f"keys/{path.name}" for path in sorted((other / "keys").iterdir())]
    contents = {name: _of(other, name) for name in copied}
    _make_state(settings.state)
    for name, content in contents.items():
        (settings.state / name).parent.mkdir(mode=0o700, exist_ok=True)
        write_new(settings.state / name, content)
    list_folder(settings).mkdir(mode=0o700)
    write_new(_node_file(settings), f"{new_id(clock(), random)}\n".encode())
    return _settle(config, settings)


def node_id(settings: Settings) -> str:
    """Which node this state folder is of. A copy of the folder is not another node: `jitgate init --join` makes one."""
    found = _node_file(settings).read_text().strip()
    if not is_id(found):
        raise Unsafe(f"{_node_file(settings)} is not the file that jitgate init wrote", "put it back from its backup")
    return found


def _node_file(settings: Settings) -> Path:
    return settings.state / "node"


def _of(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except FileNotFoundError:
        raise NotFound(f"no {name} in {folder}", "--join the state folder of another node, or a copy of it") from None


def _check_new(config: Path, state: Path) -> None:
    if config.exists():
        raise Conflict(f"there are settings at {config} already", "choose another file with --config")
    if state.exists() and any(state.iterdir()):
        raise Conflict(f"{state} is not empty", "choose another folder with --state")


def _make_state(state: Path) -> None:
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    state.chmod(0o700)


def _settle(config: Path, settings: Settings) -> Made:
    config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_new(config, _toml(settings).encode())
    return Made(config, login_url(settings))


def log_origin(settings: Settings) -> str:
    """The log's name in checkpoints: schema-less, as C2SP tlog-checkpoint recommends."""
    return f"{urlsplit(settings.url).netloc}/log"


def epoch_file(settings: Settings) -> Path:
    """The last epoch of the database that began here: beside it, for a copy that is put back does not know of it."""
    return settings.state / "epoch"


def rules_file(settings: Settings) -> Path:
    return settings.signers_folder / RULES


def list_folder(settings: Settings) -> Path:
    """Where the signer keeps its own list; apart from the keys, which may be on a read-only mount."""
    return settings.signers_folder / "signed"


def log_key_file(settings: Settings) -> Path:
    """The log's public key. To be noted elsewhere too: who can write here could put another one."""
    return settings.state / "log.key"


def sealing_key(settings: Settings) -> Secret[bytes]:
    path = settings.state / "sealing.key"
    if path.stat().st_mode & 0o077:
        raise Unsafe(f"{path} can be read by others", f"chmod 600 {path}")
    key = path.read_bytes()
    if len(key) != KEY_BYTES:
        raise Unsafe(f"{path} is not the key that jitgate init wrote", "put it back from its backup")
    return Secret(key)


def _toml(settings: Settings) -> str:
    lines = [
        "# jitgate's settings; every one of them is described in docs/operations.md.",
        f"state = {_quoted(str(settings.state))}",
        f"url = {_quoted(settings.url)}",
        f"listen = {_quoted(settings.listen)}",
    ]
    if settings.other_urls:
        lines.append(f"other_urls = [{', '.join(map(_quoted, settings.other_urls))}]")
    lines += [
        f"{name} = {_quoted(value)}"
        for name in ("metrics", "database", "ca_keys", "tls_certificate", "tls_key", "refused_keys")
        if (value := getattr(settings, name))
    ]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string (TOML 1.0): JSON's escapes are a part of its own."""
    return json.dumps(text, ensure_ascii=False)
