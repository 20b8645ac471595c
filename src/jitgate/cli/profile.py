"""Profiles and sign-ins on this machine: which service, by which name, with what token.

config.toml is the person's file too: only our own table in it is replaced, the rest stays as it was.
"""

import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit

from jitgate.cli.answers import Row, as_row, text
from jitgate.cli.command import FORMATS, Options
from jitgate.cli.files import config_home, private_folder, read_own, read_private, state_home, write_private
from jitgate.core.addresses import is_loopback
from jitgate.core.clock import Micros
from jitgate.core.errors import BadInput, NotFound, NotSignedIn, UsageError
from jitgate.core.ids import is_id
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.identity.nonce import check_provider
from jitgate.identity.proof import origin_of

DEFAULT = "default"
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_PIN = re.compile(r"sha256=([0-9a-fA-F]{64})")
_TOKEN = re.compile(r"jgs_[A-Za-z0-9_-]{43}")


@dataclass(frozen=True, slots=True)
class Profile:
    """One service. `url` is its origin; `pinned` says that its own CA, kept in our folder, is the only trust anchor.

    `provider`: the one of the last sign-in; empty after one with a password, by `user`.
    """

    name: str
    url: str
    user: str = ""
    pinned: bool = False
    key: str = ""
    provider: str = ""

    @property
    def folder(self) -> Path:
        return private_folder(private_folder(state_home()) / self.name)

    @property
    def key_file(self) -> Path:
        return Path(self.key) if self.key else self.folder / "id"


@dataclass(frozen=True, slots=True)
class Session:
    token: Secret[str]
    person_id: str
    name: str
    expires_at: Micros


def parse_url(typed: str) -> tuple[str, str]:
    """Origin and pin (hex, or empty) of what was typed; plain HTTP only to this machine. Else `UsageError`."""
    address, _, fragment = typed.partition("#")
    pin = _PIN.fullmatch(fragment)
    if fragment and pin is None:
        raise UsageError(
            f"not a fingerprint: {shown(fragment)}", "the part after # is sha256= and 64 hexadecimal digits"
        )
    try:
        origin = origin_of(address)
    except BadInput as error:
        raise UsageError(error.what, error.hint) from None
    parts = urlsplit(address)
    if parts.path not in ("", "/") or parts.query:
        raise UsageError(f"the address of a service has no path: {shown(address)}", f"jitctl login {origin}")
    if parts.scheme == "http" and not is_loopback(parts.hostname or ""):
        raise UsageError(
            "plain http only reaches this machine", f"jitctl login https://{origin.removeprefix('http://')}"
        )
    if parts.scheme == "http" and pin:
        raise UsageError("a fingerprint is of a TLS authority, and plain http has none", "use https://")
    return origin, pin[1].lower() if pin else ""


def check_profile_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(f"not a profile name: {shown(name)}", "lower-case letters, digits and -, at most 32")
    return name


def profiles() -> dict[str, Profile]:
    """All profiles of config.toml by name; `BadInput` if the file is wrong."""
    table = _read_config().get("profiles", {})
    if not isinstance(table, dict):
        raise _wrong("profiles is not a table")
    return {name: _profile(name, row) for name, row in table.items()}


def current(options: Options) -> Profile:
    """The profile by flag or environment, then by the file, then the only one; else `NotSignedIn`."""
    config, found = _read_config(), profiles()
    if options.output is None and (output := config.get("output")) is not None:
        options.output = next((known for known in FORMATS if known == output), None)
        if options.output is None:
            raise _wrong(f"output is none of {', '.join(FORMATS)}")
    wanted = options.profile or str(config.get("profile", ""))
    if wanted:
        if check_profile_name(wanted) not in found:
            raise NotFound(f"no profile {shown(wanted)}", f"jitctl login URL --name {wanted}")
        return found[wanted]
    if not found:
        raise NotSignedIn("not signed in to any service", "jitctl login URL")
    if len(found) > 1 and DEFAULT not in found:
        raise UsageError(f"which service? there are {', '.join(sorted(found))}", "add --profile NAME")
    return found.get(DEFAULT) or next(iter(found.values()))


def save_profile(profile: Profile) -> None:
    """Replaces this profile's table in config.toml, or adds it; nothing else in the file changes."""
    rows: list[tuple[str, str | bool]] = [("url", profile.url)]
    rows += [("user", profile.user)] if profile.user else []
    rows += [("pinned", True)] if profile.pinned else []
    rows += [("key", profile.key)] if profile.key else []
    rows += [("provider", profile.provider)] if profile.provider else []
    header = f"[profiles.{profile.name}]"
    block = [header, *(f"{name} = {json.dumps(value, ensure_ascii=False)}" for name, value in rows), ""]
    path = _config_path()
    old = read_own(path).decode() if path.exists() else ""
    lines = old.splitlines()
    start = next((i for i, line in enumerate(lines) if line.strip() == header), len(lines))
    end = next((i for i in range(start + 1, len(lines)) if lines[i].lstrip().startswith("[")), len(lines))
    gap = [""] if start == len(lines) and lines and lines[-1].strip() else []
    new = "\n".join(lines[:start] + gap + block + lines[end:]).rstrip("\n") + "\n"
    if new == old:
        return
    if _profiles_of(new).get(profile.name) != profile:
        raise _wrong(f"its table for {profile.name} is written in a way that cannot be replaced")
    path.parent.mkdir(0o700, parents=True, exist_ok=True)
    write_private(path.resolve(), new.encode())


def save_session(profile: Profile, session: Session) -> None:
    row = {"token": session.token.reveal(), "person": session.person_id, "name": session.name}
    write_private(profile.folder / "token", json.dumps(row | {"expires_at": session.expires_at}).encode())


def load_session(profile: Profile, now: Micros) -> Session:
    """The sign-in that is kept here; `NotSignedIn` if there is none or it has ended."""
    hint = f"jitctl login {profile.url}" + (f" --name {profile.name}" if profile.name != DEFAULT else "")
    try:
        row = as_row(json.loads(read_private(profile.folder / "token", 4096)))
        session = make_session(text(row, "token"), text(row, "person"), text(row, "name"), row.get("expires_at"))
    except NotFound:
        raise NotSignedIn(f"not signed in to {profile.url}", hint) from None
    except (ValueError, BadInput):
        raise NotSignedIn(f"the sign-in kept for {profile.url} cannot be read", hint) from None
    if session.expires_at <= now:
        raise NotSignedIn(f"the sign-in to {profile.url} has ended", hint)
    return session


def make_session(token: str, person_id: str, name: str, expires_at: object) -> Session:
    """What the service or our file says, checked; else `BadInput`."""
    if not _TOKEN.fullmatch(token) or not is_id(person_id) or not isinstance(expires_at, int):
        raise BadInput("the service's answer to the sign-in is not one")
    return Session(Secret(token), person_id, check_name("person", name), expires_at)


def end_session(profile: Profile) -> None:
    (profile.folder / "token").unlink(missing_ok=True)


def _config_path() -> Path:
    return config_home() / "config.toml"


def _read_config() -> Row:
    path = _config_path()
    try:
        content = read_own(path, 1 << 16)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        return cast("Row", tomllib.loads(content.decode()))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(str(error)) from None


def _profiles_of(content: str) -> dict[str, Profile]:
    try:
        table = tomllib.loads(content).get("profiles", {})
    except tomllib.TOMLDecodeError as error:
        raise _wrong(str(error)) from None
    return {name: _profile(name, row) for name, row in table.items()}


def _profile(name: str, value: object) -> Profile:
    try:
        row = as_row(value)
        url, _ = parse_url(text(row, "url"))
        pinned = row.get("pinned", False)
        if not isinstance(pinned, bool):
            raise _wrong(f"pinned of profile {name} is neither true nor false")
        provider = text(row, "provider", "")
        if provider:
            check_provider(provider)
        return Profile(check_profile_name(name), url, text(row, "user", ""), pinned, text(row, "key", ""), provider)
    except (UsageError, BadInput) as error:
        raise _wrong(f"profile {shown(name)}: {error.what}") from None


def _wrong(what: str) -> BadInput:
    path = str(_config_path())
    return BadInput(f"{path}: {what}", "correct the file, or move it away and sign in again")
