"""Certificates on this machine: fetched, checked against what was asked, kept one a host alias and grant.

certs/ALIAS/GRANT-cert.pub is the file; certs/ALIAS/LOGIN.pub leads to the newest one for that login, and is the name
that the ssh config knows. certs/ALIAS/LOGIN.ticket, where there is a gateway, opens the tunnel for it (`ssh_proxy`).
The files' time lies in the future, at the moment when they should be renewed, so that a shell can tell in a millisecond
whether jitctl has to run (`sshconfig`).
"""

import json
import os
import re
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from jitgate.cli.answers import Grant, Host, Ticket, as_ticket, text
from jitgate.cli.files import private_folder, read_private, write_private
from jitgate.cli.profile import Profile
from jitgate.cli.service import Service
from jitgate.cli.signing import Signer
from jitgate.core.clock import SECOND, Micros, system_clock
from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.ssh.cert import Certificate, CertType, Untrusted, check_trusted, parse_certificate_line
from jitgate.ssh.pubkey import BadSignature, PublicKey
from jitgate.ssh.wire import FormatError

RENEW_BEFORE = 60  # seconds before its end that a certificate counts as used up, or a quarter of a short life
_FILE = re.compile(r"[0-9A-Z]{26}-cert\.pub")
_LINE_MAX = 1 << 18
_AGENT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Fetched:
    """A certificate, and the ticket that came with it where the service has a gateway."""

    certificate: Certificate
    ticket: Ticket | None


def request(service: Service, grant: Grant, host: Host, signer: Signer, authorities: Collection[PublicKey]) -> Fetched:
    """A new certificate under the grant for the signer's key, checked before anything trusts it."""
    answer = service.post("/v1/certificates", {"grant": grant.id, "host": host.name}, signer=signer)
    try:
        certificate = parse_certificate_line(text(answer, "certificate"))
        _check(certificate, grant, signer.public, authorities)
    except (FormatError, BadSignature, Untrusted) as error:
        raise BadInput(
            f"the service answered with a certificate that is not what was asked for: {error.what}",
            "do not use it; tell the service's owner",
        ) from None
    return Fetched(certificate, as_ticket(answer.get("tunnel")))


def _check(certificate: Certificate, grant: Grant, key: PublicKey, authorities: Collection[PublicKey]) -> None:
    check_trusted(certificate, authorities)
    body = certificate.body
    if body.type is not CertType.USER:
        raise FormatError("it is for a host")
    if body.key != key:
        raise FormatError("it is for another key")
    if body.principals != (f"{grant.login}@host:{grant.host}",):
        raise FormatError(f"it is for {', '.join(body.principals)}")
    if grant_of(certificate) != grant.id:
        raise FormatError("it is under another grant")
    if ends(certificate) <= system_clock():
        raise FormatError("it has ended")


def grant_of(certificate: Certificate) -> str:
    """The grant's id in the key id `jitgate grant=ULID person=NAME`; empty if there is none."""
    words = certificate.body.key_id.split(" ")
    return next((word.removeprefix("grant=") for word in words if word.startswith("grant=")), "")


def ends(certificate: Certificate) -> Micros:
    return certificate.body.valid_before * SECOND


def used_up(certificate: Certificate, now: Micros) -> bool:
    return renew_at(certificate) * SECOND <= now


def renew_at(certificate: Certificate) -> int:
    """Seconds since 1970."""
    body = certificate.body
    return body.valid_before - min(RENEW_BEFORE, (body.valid_before - body.valid_after) // 4)


def link(profile: Profile, alias: str, login: str) -> Path:
    """The path that the ssh config names for that login."""
    return profile.folder / "certs" / alias / f"{login}.pub"


def ticket_file(profile: Profile, alias: str, login: str) -> Path:
    return link(profile, alias, login).with_suffix(".ticket")


def lock_file(profile: Profile, alias: str, login: str) -> str:
    """Below the profile's folder: what one who fetches for that login holds."""
    private_folder(private_folder(profile.folder / "certs") / alias)
    return str(link(profile, alias, login).with_suffix(".lock").relative_to(profile.folder))


def keep(profile: Profile, host: Host, fetched: Fetched, grant: Grant) -> Path:
    """Writes ticket and certificate and turns the login's link to it; the path of the certificate's file."""
    folder = private_folder(private_folder(profile.folder / "certs") / host.alias)
    renew = renew_at(fetched.certificate)
    ticket = ticket_file(profile, host.alias, grant.login)
    if fetched.ticket is None:
        ticket.unlink(missing_ok=True)
    else:
        ends = fetched.ticket.expires_at // SECOND
        renew = min(renew, ends - min(RENEW_BEFORE, (ends - system_clock() // SECOND) // 4))
        write_private(ticket, _ticket_text(profile, host, fetched.ticket), time=renew)
    path = folder / f"{grant.id}-cert.pub"
    write_private(path, f"{fetched.certificate.line()}\n".encode(), time=renew)
    to = link(profile, host.alias, grant.login)
    temporary = to.with_name(f".{to.name}.{secrets.token_hex(8)}")
    temporary.symlink_to(path.name)
    temporary.rename(to)
    return path


def _ticket_text(profile: Profile, host: Host, ticket: Ticket) -> bytes:
    """What `ssh_proxy` reads: a line for each name, so that it can be read without a JSON parser."""
    gateway = ticket.gateway
    row = {"ticket": ticket.secret.reveal(), "host": host.name, "address": gateway.address, "port": gateway.port}
    row |= {"server_name": gateway.server_name, "keep_tls": gateway.keep_tls}
    row |= {"ca_file": str(profile.folder / "tls-ca.pem") if profile.pinned else ""}
    return json.dumps(row, indent=0).encode()


def good(profile: Profile, alias: str, login: str, *, ticket: bool, now: Micros) -> Path | None:
    """The file of the certificate that plain ssh would use, if it is good for a while; `ticket`: and has one.

    The same test as in our ssh config: the time of the files.
    """
    path = link(profile, alias, login)
    files = [path, ticket_file(profile, alias, login)] if ticket else [path]
    try:
        if any(file.stat().st_mtime <= now / SECOND for file in files):
            return None
        return path.with_name(path.readlink().name)
    except OSError:
        return None


def read(path: Path) -> Certificate | None:
    """The certificate of one of our files, if it is one."""
    try:
        return parse_certificate_line(read_private(path, _LINE_MAX).decode("ascii", "replace").strip())
    except (NotFound, FormatError, BadSignature):
        return None


def linked(profile: Profile, alias: str, login: str) -> Certificate | None:
    """The certificate that plain ssh would use now."""
    path = link(profile, alias, login)
    try:
        name = path.readlink().name
    except OSError:
        return None
    return read(path.with_name(name)) if _FILE.fullmatch(name) else None


def kept(profile: Profile) -> list[tuple[Path, Certificate]]:
    """All certificates here, with their files."""
    files = sorted(path for path in (profile.folder / "certs").glob("*/*-cert.pub") if _FILE.fullmatch(path.name))
    return [(path, certificate) for path in files if (certificate := read(path))]


def clean(profile: Profile, now: Micros, grants: Collection[str] = ()) -> None:
    """Removes certificates that have ended, or are of those grants, and the links that led to them."""
    for path, certificate in kept(profile):
        if ends(certificate) <= now or path.name.removesuffix("-cert.pub") in grants:
            path.unlink(missing_ok=True)
    for path in (profile.folder / "certs").glob("*/*.pub"):
        if path.is_symlink() and not path.exists():
            path.unlink(missing_ok=True)
            path.with_suffix(".ticket").unlink(missing_ok=True)


def remove_all(profile: Profile) -> None:
    shutil.rmtree(profile.folder / "certs", ignore_errors=True)


def offer_to_agent(profile: Profile, signer: Signer, certificate: Certificate, file: Path, now: Micros) -> None:
    """Key and certificate to the agent, if there is one, until the certificate ends. Never fails: files are enough."""
    seconds = (ends(certificate) - now) // SECOND
    if signer.software is None or not os.environ.get("SSH_AUTH_SOCK") or seconds < 1:
        return
    folder = Path(tempfile.mkdtemp(prefix=".agent-", dir=profile.folder))
    try:
        # ssh-add finds a certificate only beside its key
        (folder / "id").symlink_to(signer.file)
        (folder / "id-cert.pub").symlink_to(file)
        _ssh_add("-t", str(seconds), str(folder / "id"))
    except OSError:
        pass
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def take_from_agent(profile: Profile) -> None:
    """What `offer_to_agent` gave: the certificates, and the key if it is jitctl's own. Never fails."""
    with suppress(OSError, Unsafe):
        files = [str(path) for path, _ in kept(profile)]
        if os.environ.get("SSH_AUTH_SOCK") and files:
            _ssh_add("-d", *files, *([] if profile.key else [str(profile.folder / "id.pub")]))


def _ssh_add(*arguments: str) -> None:
    with suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(
            ["ssh-add", "-q", *arguments],  # noqa: S607  # the person's own ssh
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_AGENT_SECONDS,
            check=False,
        )
