"""The demo's world: a service, its signer, two persons and two stock sshd hosts, on loopback, in one folder."""

import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from secrets import token_urlsafe

import pyotp

from jitgate.app import local_sshd
from jitgate.app.control import Json, call_control
from jitgate.app.demo.peers import PASSWORD_FILE, PROVIDER, Peers, open_peers
from jitgate.app.installation import make_installation, rules_file
from jitgate.app.local_sshd import ADDRESS, LocalHost
from jitgate.app.local_trust import install_trust
from jitgate.app.operate import operate
from jitgate.app.settings import Settings, load_settings
from jitgate.app.tls import login_url, tls_folder
from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.ca.names import host_pattern
from jitgate.core.clock import SECOND, system_clock
from jitgate.core.errors import Unreachable
from jitgate.core.secret import Secret
from jitgate.identity.totp import STEP
from jitgate.policy.folder import load_folder

PATIENCE_S = 30
STEP_S = STEP // SECOND
PEOPLE: Mapping[str, tuple[tuple[str, ...], bool]] = {"alice": (("engineers",), False), "bob": (("dba",), True)}
HOSTS: Mapping[str, tuple[tuple[str, ...], Mapping[str, str]]] = {
    "web1": (("ubuntu", "deploy"), {"tier": "web"}),
    "db1": (("postgres",), {"tier": "db"}),
}


@dataclass(frozen=True, slots=True)
class Member:
    """A person of the demo. `home`: their own HOME, where their jitctl keeps its key."""

    name: str
    groups: tuple[str, ...]
    admin: bool
    password: Secret[str]
    totp_secret: Secret[str]
    home: Path

    def code(self) -> str:
        """A code that is good for some seconds yet, and not the one that somebody who tries the demo is shown next.

        A code works once: early in a step it is the one before, which the service still takes; late in it, this one.
        """
        now = int(time.time())
        return pyotp.TOTP(self.totp_secret.reveal()).at(now - STEP_S if now % STEP_S < STEP_S // 2 else now)


@dataclass(frozen=True, slots=True)
class World:
    folder: Path
    config: Path
    settings: Settings
    url: str
    people: Mapping[str, Member]
    hosts: Mapping[str, LocalHost]
    vault_token: Secret[str]
    """Of the admin, for the Vault surface."""
    peers: Peers | None
    """Dex, OpenLDAP and OpenBao, with `--dex`: alice is then known to them alone."""

    def environment(self, home: Path) -> dict[str, str]:
        """What a command of the tour sees: its person's home, and nothing of who runs the demo.

        With `--dex` a browser too, in which its person signs in at Dex.
        """
        kept = {
            name: value for name, value in os.environ.items() if name in {"PATH", "LANG", "TERM", "LD_LIBRARY_PATH"}
        }
        person = shlex.join([sys.executable, "-m", "jitgate.app.demo.person", home.name, str(home / PASSWORD_FILE)])
        browser = {"BROWSER": f"{person} %s"} if self.peers else {}
        return kept | browser | {"HOME": str(home), "JITGATE_CONFIG": str(self.config)}


@contextmanager
def open_world(folder: Path, *, dex: bool = False, trusted: bool = True) -> Iterator[World]:
    """Build it below `folder` and take it down again. Raises `NotFound` for a program that is missing.

    `dex`: people come from Dex with OpenLDAP behind it, their keys are registered in OpenBao. `trusted`: its hosts are
    known and were given a trust file; else they are stock sshds that never heard of jitgate.
    """
    programs = local_sshd.find_programs()
    folder.chmod(0o755)  # its hosts may run as another user; what is secret in it has a mode of its own
    with ExitStack() as stack:
        _, config = _installation(folder)
        settings = _switch_vault_on(config)
        passwords = {name: Secret(token_urlsafe(9)) for name in PEOPLE}
        peers = stack.enter_context(open_peers(folder, passwords)) if dex else None
        if peers:
            with config.open("a") as file:
                file.write(peers.settings)
            settings = load_settings(config, {})
        stack.enter_context(_service(settings, config, folder / "service.log"))
        roles = folder / "roles"
        shutil.copytree(str(files("jitgate.app.demo") / "roles"), roles)
        operate(settings, "policy apply", {"bundle": load_folder(roles).text})
        people = {
            name: _from_dex(folder, name, groups, passwords[name])
            if dex and not admin
            else _add_person(settings, folder, name, groups, admin)
            for name, (groups, admin) in PEOPLE.items()
        }
        hosts: dict[str, LocalHost] = {}
        for name, (logins, labels) in HOSTS.items():
            host = local_sshd.start(folder / name, name, logins, programs)
            stack.callback(host.stop)
            if trusted:
                trust_host(settings, host, labels, folder / f"{name}.trust")
            hosts[name] = host
        admin = next(name for name, (_, admin) in PEOPLE.items() if admin)
        token = Secret(operate(settings, "vault token", {"name": admin, "ttl": "8h"})["token"])
        yield World(folder, config, settings, login_url(settings), people, hosts, token, peers)


def as_json(world: World) -> Json:
    """What another program needs to use the demo. Holds secrets."""
    people = [
        {
            "name": member.name,
            "password": member.password.reveal(),
            "totp_secret": member.totp_secret.reveal(),
            "groups": list(member.groups),
        }
        for member in world.people.values()
    ]
    elsewhere = {} if world.peers is None else {"provider": _provider_json(world.peers)}
    return elsewhere | {
        "url": world.url,
        "vault_url": f"{world.settings.url}/vault",
        "vault_token": world.vault_token.reveal(),
        "vault_cacert": str(tls_folder(world.settings) / "ca.pem"),
        "users": people,
        "admin": next(member.name for member in world.people.values() if member.admin),
        "hosts": [
            {"name": host.name, "logins": list(host.logins), "address": host.address, "port": host.port}
            for host in world.hosts.values()
        ],
        "state_dir": str(world.settings.state),
        "config": str(world.config),
        "known_hosts": str(_known_hosts(world)),
    }


def _provider_json(peers: Peers) -> Json:
    """By whom people sign in with `--dex`; a user whose `totp_secret` is empty has no password here."""
    users = [{"name": name, "password": password.reveal()} for name, password in peers.passwords.items()]
    return {"name": PROVIDER, "issuer": peers.dex.issuer, "users": users}


def write_json(world: World, path: Path) -> None:
    """0600, complete or not there."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        json.dump(as_json(world), file, indent=2)
        file.write("\n")
    temporary.rename(path)


def _known_hosts(world: World) -> Path:
    """The line by which any ssh client knows the demo's hosts (with `HostKeyAlias NAME.default.jitgate`)."""
    path = world.folder / "known_hosts"
    keys = operate(world.settings, "ca ls", {})["keys"]
    trusted = [key for key in keys if key["kind"] == "host" and key["phase"] in {"listed", "active"}]
    path.write_text("".join(f"@cert-authority {host_pattern(key['realm'])} {key['key']}\n" for key in trusted))
    return path


def _installation(folder: Path) -> tuple[Settings, Path]:
    with socket.socket() as probe:
        probe.bind((ADDRESS, 0))
        port = probe.getsockname()[1]
    settings = Settings(state=folder / "state", url=f"https://{ADDRESS}:{port}", listen=f"{ADDRESS}:{port}")
    config = folder / "jitgate.toml"
    make_installation(config, settings, system_clock)
    return settings, config


def _switch_vault_on(config: Path) -> Settings:
    """Both switches of the Vault surface: the service's, and the signer's own."""
    with config.open("a") as file:
        file.write("\n[vault]\nplain_logins_unregistered_keys = true\n")
    settings = load_settings(config, {})
    with rules_file(settings).open("a") as file:
        file.write(MOUNT_TABLE)
    return settings


@contextmanager
def _service(settings: Settings, config: Path, log: Path) -> Iterator[None]:
    """A real `jitgate serve`, in a process of its own."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jitgate", "serve", "--config", str(config)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={name: value for name, value in os.environ.items() if not name.startswith("JITGATE_")},
            start_new_session=True,
        )
    try:
        until = time.monotonic() + PATIENCE_S
        while call_control(settings.state, "user ls", {}) is None:
            if process.poll() is not None or time.monotonic() > until:
                raise Unreachable(f"the service did not start: {log.read_text(errors='replace')[-500:]}", f"see {log}")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _add_person(settings: Settings, folder: Path, name: str, groups: Sequence[str], admin: bool) -> Member:  # noqa: FBT001  # a row of PEOPLE
    told = {"name": name, "groups": list(groups), "admin": admin, "password": None}
    done = operate(settings, "user add", told)
    home = folder / "people" / name
    home.mkdir(mode=0o700, parents=True)
    return Member(name, tuple(groups), admin, Secret(done["password"]), Secret(done["totp_secret"]), home)


def _from_dex(folder: Path, name: str, groups: tuple[str, ...], password: Secret[str]) -> Member:
    """Somebody whom nobody adds here: they become known when they sign in."""
    home = folder / "people" / name
    home.mkdir(mode=0o700, parents=True)
    return Member(name, groups, admin=False, password=password, totp_secret=Secret(""), home=home)


def trust_host(
    settings: Settings, host: LocalHost, labels: Mapping[str, str], trust_file: Path, *, realm: str = "default"
) -> None:
    """What an owner does for each host: `jitgate host add` on the server, `jitgate host trust` on the host."""
    told = {
        "name": host.name,
        "realm": realm,
        "address": host.address,
        "port": host.port,
        "logins": list(host.logins),
        "labels": dict(labels),
        "host_key": host.host_key,
    }
    install_trust(host, operate(settings, "host add", told)["trust"], trust_file)
