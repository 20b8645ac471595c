"""A new installation: its folder, its keys, its database. Nothing that exists is ever overwritten."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from jitgate.adapters.db.store import create_installation
from jitgate.adapters.signers.files import write_key, write_new
from jitgate.app.settings import Settings
from jitgate.app.tls import login_url, make_authority
from jitgate.audit.checkpoint import verifier_key
from jitgate.ca.realms import DEFAULT_REALM
from jitgate.ca.rules import default_rules
from jitgate.core.clock import Clock
from jitgate.core.errors import Conflict, Unsafe
from jitgate.core.ids import Random, new_id
from jitgate.core.secret import Secret
from jitgate.identity.sealing import KEY_BYTES
from jitgate.ssh.private import generate_ed25519

USER_KEY, HOST_KEY, LOG_KEY = "user_ca", "host_ca", "log"
RULES = "signer.toml"


@dataclass(frozen=True, slots=True)
class Made:
    config: Path
    login_url: str


def make_installation(config: Path, settings: Settings, clock: Clock, random: Random = os.urandom) -> Made:
    """Write settings, keys, TLS authority and database. Raises `Conflict` if any of it is there already."""
    if config.exists():
        raise Conflict(f"there are settings at {config} already", "choose another file with --config")
    settings.state.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(settings.state.iterdir()):
        raise Conflict(f"{settings.state} is not empty", "choose another folder with --state")
    settings.state.chmod(0o700)
    now = clock()
    origin = log_origin(settings)
    settings.keys_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name in (USER_KEY, HOST_KEY, LOG_KEY):
        key = generate_ed25519()
        write_key(settings.keys_folder, name, key)
        if name == LOG_KEY:
            write_new(log_key_file(settings), (verifier_key(origin, key.public.blob[-32:]) + "\n").encode())
    rules = default_rules(origin, DEFAULT_REALM, user_key=USER_KEY, host_key=HOST_KEY, log_key=LOG_KEY)
    write_new(rules_file(settings), rules.encode())
    list_folder(settings).mkdir(mode=0o700)
    write_new(settings.state / "sealing.key", random(KEY_BYTES))
    if settings.self_made_tls:
        make_authority(settings, now)
    create_installation(
        settings.database_url,
        origin=origin,
        values={"installation": new_id(now, random), "epoch": "0"},
        now=now,
    )
    config.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_new(config, _toml(settings).encode())
    return Made(config, login_url(settings))


def log_origin(settings: Settings) -> str:
    """The log's name in checkpoints: schema-less, as C2SP tlog-checkpoint recommends."""
    return f"{urlsplit(settings.url).netloc}/log"


def rules_file(settings: Settings) -> Path:
    return settings.state / RULES


def list_folder(settings: Settings) -> Path:
    """Where the signer keeps its own list; apart from the keys, which may be on a read-only mount."""
    return settings.state / "signed"


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
