"""The sign-in itself: whom to trust, what to ask, the key's proof, what is kept."""

import fcntl
import hashlib
import hmac
import os
import re
import ssl
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from platform import node

from jitgate.cli import profile as kept
from jitgate.cli import terminal
from jitgate.cli.answers import Row, as_realms, as_row, text
from jitgate.cli.command import Options
from jitgate.cli.files import FILE_MODE, write_private
from jitgate.cli.out import say
from jitgate.cli.profile import Profile, Session
from jitgate.cli.providers import Provider, as_ways, choose
from jitgate.cli.service import Service
from jitgate.cli.signing import Signer, load_signer, own_key
from jitgate.cli.times import parse, until
from jitgate.cli.trust import no_trust, trust, trusted
from jitgate.core.clock import system_clock
from jitgate.core.errors import BadInput, Error, NotFound, NotSignedIn, Unsafe, UsageError
from jitgate.core.secret import Secret
from jitgate.core.text import check_name, shown
from jitgate.identity.nonce import new_salt, nonce_for, proof_subject

_PASSWORD_MAX = 4096  # bytes of a password file's first line
_MODE_OPEN = 0o077
_CODE = re.compile(r"[0-9]{6}")
_CODE_TRIES = 3


@dataclass(frozen=True, slots=True)
class Given:
    """What was given on the command line; what is None is asked on the terminal."""

    user: str | None = None
    password_file: str | None = None
    code: str | None = None
    key: str | None = None
    provider: str | None = None
    local: bool = False
    device: bool = False
    browser: bool = True


def sign_in(profile: Profile, options: Options, given: Given, *, pin: str = "") -> tuple[Profile, Session]:
    """Signs in; keeps profile, trust anchor and session. Of a sign-in that was refused only a new key is kept."""
    ca = pinned_authority(profile, options, pin) if pin else b""
    profile = replace(profile, pinned=bool(ca) or profile.pinned, key=given.key or profile.key)
    with Service(profile, options, trust(ca) if pin else trusted(profile)) as service:
        about = service.get("/.well-known/jitgate")
        as_realms(about)  # the right kind of service, before anybody types a password
        used = profile.provider or ("local" if profile.user else "")
        words = given.password_file is not None or given.code is not None or (bool(given.user) and not profile.provider)
        ways = as_ways(about)
        if given.device and not ways.providers:
            raise NotFound("the service has no device flow, for it has no provider", "leave out --device")
        if ways.providers and (given.device or not given.browser):
            ways = replace(ways, local=False)  # whoever says how to get to a provider means one
        way = choose(options, ways, given.provider, local=given.local or words, used=used)
        try:
            if way is None:
                profile, signer, answer = _by_password(service, profile, options, given)
            else:
                profile, signer, answer = _by_provider(service, way, profile, options, given)
        except Error as error:
            if error.code == "key_revoked" and not profile.key:
                _set_aside(profile)
                raise BadInput(error.what, "the next sign-in makes a new one: jitctl login", code=error.code) from None
            raise
    person = as_row(answer.get("person"))
    ends = parse(text(answer, "expires_at"))
    session = kept.make_session(text(answer, "token"), text(person, "id"), text(person, "name"), ends)
    if ca:
        write_private(profile.folder / "tls-ca.pem", ca)
    kept.save_profile(profile)
    kept.save_session(profile, session)
    now = system_clock()
    say(options, f"signed in to {profile.url} as {session.name} until {until(session.expires_at, now)}")
    say(options, f"your key here is {signer.public.fingerprint} ({profile.key_file})")
    return profile, session


def _by_password(service: Service, profile: Profile, options: Options, given: Given) -> tuple[Profile, Signer, Row]:
    name = check_name("person", given.user or terminal.ask(options, "name", profile.user))
    password = read_password(given.password_file) or terminal.ask_secret(options, f"password of {name}")
    code = _code(options, given.code)
    profile = replace(profile, user=name, provider="")
    signer = _signer(profile)
    document = {
        "name": name,
        "password": password.reveal(),
        "code": code.reveal(),
        "key": signer.public.line(_comment(name)),
    }
    return profile, signer, service.post("/v1/sign-in", document, subject=name, signer=signer)


def _by_provider(
    service: Service, provider: Provider, profile: Profile, options: Options, given: Given
) -> tuple[Profile, Signer, Row]:
    """By the code flow with a browser on this machine, else by the device flow if there is one."""
    profile = replace(profile, user="", provider=provider.name)
    signer = _signer(profile)
    key_line = signer.public.line(_comment(profile.user))
    if _is_elsewhere(provider, options, given):
        from jitgate.cli.device import sign_in_elsewhere  # noqa: PLC0415  # only needed here

        return profile, signer, sign_in_elsewhere(service, provider, signer, key_line, options)
    with token_for(provider, service.profile.url, signer, options, browser=given.browser) as told:
        subject = proof_subject(provider.name)
        answer = service.post("/v1/sign-in/oidc", told | {"key": key_line}, subject=subject, signer=signer)
    return profile, signer, answer


@contextmanager
def token_for(
    provider: Provider, origin: str, signer: Signer, options: Options, *, browser: bool
) -> Iterator[dict[str, str]]:
    """An ID token for this key at this service, as the service takes it. A context: the browser's page waits."""
    from jitgate.cli.browser import why_none  # noqa: PLC0415  # only needed here
    from jitgate.cli.oidc import id_token  # noqa: PLC0415  # as above

    salt = new_salt(os.urandom)
    nonce = nonce_for(origin, provider.name, signer.public.fingerprint, salt)
    with id_token(provider, nonce, options, open_browser=browser and not why_none()) as token:
        yield {"provider": provider.name, "id_token": token.reveal(), "salt": salt}


def _is_elsewhere(provider: Provider, options: Options, given: Given) -> bool:
    """Whether the sign-in goes by the device flow; `NotFound` if only that was asked for and is not offered."""
    from jitgate.cli.browser import why_none  # noqa: PLC0415  # only needed here

    offered = "device" in provider.flows
    if given.device and not offered:
        raise NotFound(
            f"the service offers no device flow with {provider.name}",
            "--no-browser prints an address for a browser on another machine",
        )
    if given.device or "code" not in provider.flows:
        return True
    if given.browser and (why := why_none()):
        say(options, why)
        return offered
    return False


def session_or_sign_in(options: Options) -> tuple[Profile, Session]:
    """The current sign-in; where it has ended and somebody is at the terminal, a new one."""
    profile = kept.current(options)
    try:
        return profile, kept.load_session(profile, system_clock())
    except NotSignedIn as error:
        if not terminal.can_ask(options):
            raise
        say(options, error.what)
    with _only_one(profile, options):
        profile = kept.current(options)
        try:  # somebody else's window was first
            return profile, kept.load_session(profile, system_clock())
        except NotSignedIn:
            return sign_in(profile, options, Given(user=profile.user or None))


@contextmanager
def _only_one(profile: Profile, options: Options) -> Iterator[None]:
    """So that ten terminals that need a sign-in open one browser. Held by the process: it cannot be left behind."""
    file = os.open(profile.folder / "sign-in.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE)
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(options, "another jitctl is signing in: waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)


def pinned_authority(profile: Profile, options: Options, pin: str) -> bytes:
    """The service's TLS authority (PEM) if its SHA-256 over DER is the pin. Until then nothing is trusted or sent."""
    with Service(profile, options, no_trust()) as service:
        response, content = service.fetch("GET", "/.well-known/jitgate/tls-ca")
    try:
        der = ssl.PEM_cert_to_DER_cert(content.decode("ascii").strip())
    except ValueError:
        der = b""
    if not response.is_success or not der:
        raise BadInput(f"{profile.url} offers no TLS authority of its own", "leave out #sha256=... to use public trust")
    found = hashlib.sha256(der).hexdigest()
    if not hmac.compare_digest(found, pin):
        raise Unsafe(
            f"the TLS authority of {profile.url} is not the one you were told of: sha256={found}",
            "somebody may stand between; ask the service's owner for the address with its fingerprint",
        )
    return ssl.DER_cert_to_PEM_cert(der).encode()


def read_password(file: str | None) -> Secret[str] | None:
    """The first line of the file, or of stdin for `-`. A file that others can read is refused."""
    if file is None:
        return None
    if file == "-":
        line = sys.stdin.buffer.readline(_PASSWORD_MAX)
    else:
        try:
            with Path(file).open("rb") as opened:
                mode = os.fstat(opened.fileno()).st_mode
                if stat.S_ISREG(mode) and mode & _MODE_OPEN:  # a pipe has no others
                    raise Unsafe(f"others can read {shown(file, 200)}", f"chmod 600 {file}")
                line = opened.readline(_PASSWORD_MAX)
        except FileNotFoundError:
            raise NotFound(f"no such file: {shown(file, 200)}") from None
    try:
        password = line.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise BadInput("the password is not UTF-8 text") from None
    if not password:
        raise BadInput("the password file is empty", "its first line is the password")
    return Secret(password)


def _code(options: Options, given: str | None) -> Secret[str]:
    """Six digits, however they are grouped. What is none is not sent: it may be the password, at the wrong prompt."""
    for _ in range(_CODE_TRIES):
        typed = given or terminal.ask_secret(options, "code (from your authenticator)").reveal()
        code = typed.replace(" ", "")
        if _CODE.fullmatch(code):
            return Secret(code)
        if given:
            break
        say(options, "a code has six digits")
    raise UsageError("that is no one-time code", "it has six digits; your authenticator shows it")


def _signer(profile: Profile) -> Signer:
    if profile.key:
        return load_signer(profile.key_file)
    return own_key(profile.key_file, _comment(profile.user))


def _set_aside(profile: Profile) -> None:
    """A key that the service takes no more: kept under another name, so that a new one is made."""
    for file in (profile.key_file, profile.key_file.with_name(profile.key_file.name + ".pub")):
        with suppress(FileNotFoundError):
            file.rename(file.with_name(f"revoked-{file.name}"))


def _comment(name: str) -> str:
    machine = "".join(c for c in node() if c.isascii() and (c.isalnum() or c in "._-"))[:40]
    return f"{name or 'jitctl'}@{machine or 'somewhere'}"
