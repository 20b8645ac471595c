"""A host joins: it reads what sshd does, proves its host key, takes what it is told, installs, and proves that.

In this order, so that a token is not used up by a host that cannot join, and a kill at any point leaves a host that
lets in whoever it let in before, and a second run that goes on from there:

1. sshd is read (`doctor`); what would stop the installation stops here.
2. The token's root key, and the TLS authority that it pins, are all that is believed. The host key signs the request.
3. The answer is verified: trust list by the root key, certificate by a host CA in it, bundle by its online key.
4. What was verified and what this host was told are written: settings and state. From here a second run needs no token.
5. The script installs (trust.sh): the revocation list first, the drop-in last, `sshd -t`, `-T`, `-T -C`, reload.
6. The sshd that listens is asked for its host certificate: only one that has read the new settings shows it.
   If it does not, all is put back.

A login by a certificate needs one that the CA signed, and no host gets that: what `sshd -T -C` says for each login, and
what the sshd that listens shows, is the proof. The first person's login is the rest of it.
"""

import os
import platform
import socket
import subprocess
import time
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from jitgate import __version__
from jitgate.agent import doctor, durable, held, hostkey, jit, obey, pins, tls
from jitgate.agent.dialback import local_sshd
from jitgate.agent.doctor import Level
from jitgate.agent.held import Held
from jitgate.agent.pins import Gateway, Pins
from jitgate.agent.place import Place, Say
from jitgate.agent.script import render
from jitgate.agent.sshd import ETC, Sshd
from jitgate.ca.envelope import take_envelope
from jitgate.ca.trust import LINE_MAX, pinned_root
from jitgate.ca.trust import PAYLOAD_MAX as TRUST_MAX
from jitgate.core.clock import Clock
from jitgate.core.errors import ApprovalPending, BadInput, Error, Unsafe
from jitgate.core.fields import Fields, text_item
from jitgate.core.ids import is_id
from jitgate.core.secret import Secret
from jitgate.core.text import check_name
from jitgate.hosts.bundle import KRL_MAX
from jitgate.hosts.bundle import PAYLOAD_MAX as BUNDLE_MAX
from jitgate.hosts.joining import NAMESPACE, JoinToken, join_bytes, secret_hash
from jitgate.ssh.wire import from_base64

_PATH: Final = "/v1/hosts/join"
_ACCEPTED: Final = 202
_PROBE_S: Final = 20.0  # how long a reloaded sshd may take to show its certificate
_POLL_S: Final = 5.0
_LINE_MAX: Final = 1 << 15
_LOGINS_MAX: Final = 64
_JOINED_BY: Final = "joined-by"  # the hash of the token that was used: the same one again asks nothing


@dataclass(frozen=True, slots=True)
class Invitation:
    """Where the service is, and how it is known: `root`, the root key's fingerprint; `tls_pin`, `sha256=HEX` or empty.

    `secret` empty: no token; the service has to know this host by its key, and an owner has to agree. `provider`: whose
    ID token of this machine, `id_token`, is shown instead of the secret.
    """

    url: str
    installation: str
    realm: str
    name: str
    root: str
    tls_pin: str
    secret: Secret[str]
    provider: str = ""
    id_token: Secret[str] = field(default_factory=lambda: Secret(""))

    @property
    def token_hash(self) -> bytes:
        """Of what is shown to the service, as the host key signs it."""
        shown = self.id_token if self.provider else self.secret
        return secret_hash(shown) if shown else bytes(32)

    @property
    def mark(self) -> str:
        """By which a second run knows that it is the same invitation: an ID token is another one each time."""
        return (secret_hash(self.secret) if self.secret else bytes(32)).hex()

    def shown(self) -> dict[str, str]:
        if self.provider:
            return {"token": "", "provider": self.provider, "id_token": self.id_token.reveal()}
        return {"token": self.secret.reveal()}


def by_token(token: JoinToken, provider: str = "", id_token: str = "") -> Invitation:
    """With a provider, the token only tells where to go, and the machine's own ID token is what counts."""
    if provider and not (id_token.isascii() and id_token.isprintable() and id_token):
        raise BadInput("what is there for an ID token is none", "the machine's own, from its provider")
    where = (token.url, token.installation, token.realm, token.name, token.root, token.tls_pin)
    return Invitation(*where, token.secret, provider, Secret(id_token))


def by_key(place: Place, url: str, tls_pin: str, realm: str, name: str, root: str) -> Invitation:
    """For a host that the service knows by its key. Only `installation` is asked of it: a signature is good there."""
    durable.make_folder(place.state)
    authority = tls.authority_of(url, tls_pin, place.authority)
    about = tls.get(url, "/.well-known/jitgate", authority)
    installation = about.get("installation") if isinstance(about, dict) else None
    if not isinstance(installation, str) or not is_id(installation):
        raise BadInput(f"{url} does not say which installation it is", "is it a jitgate service, and new enough?")
    return Invitation(
        url, installation, check_name("realm", realm), check_name("host", name), root, tls_pin, Secret("")
    )


def join(place: Place, token: Invitation, logins: tuple[str, ...], clock: Clock, say: Say, *, wait: float = 0) -> Held:
    """Joins, or goes on with a join of the same host that was cut off. Each `Error` says what to do."""
    read_first(place.sshd, logins, clock, say)
    durable.make_folder(place.state)
    known = _known(place, token)
    if known is None:
        known = _ask(place, token, clock, say, wait)
    else:
        say("known", f"this host has joined as {known.pins.host}: nothing is asked of the service")
    put_in_force(known, say)
    close_new(known, say)
    return known


def close_new(known: Held, say: Say) -> None:
    """Logins without an account are jitgate's alone from their first day. One that cannot be stays as it is, and is
    said: the host has joined all the same. Only for this machine's own sshd: whose users another one has is not known.
    """
    sshd, new = known.pins.sshd, jit.without_account(known.pins.logins)
    if sshd.etc != ETC:
        return
    try:
        if jit.put(sshd, {*jit.closed(sshd), *new}):
            say("only", f"jitgate opens {' '.join(new)}: there was no such account before")
    except Error as error:
        say("note", f"keys and passwords may open {' '.join(new)}: {error.what}")


def read_first(sshd: Sshd, logins: tuple[str, ...], clock: Clock, say: Say) -> None:
    """`Unsafe` with every reason why it cannot go on."""
    findings = doctor.examine(sshd, logins, clock())
    stops = [each for each in findings if each.level is Level.STOP]
    for each in stops:
        say("stop", f"{each.what} ({each.hint})" if each.hint else each.what)
    if stops:
        raise Unsafe(f"not joined: {stops[0].what}", stops[0].hint, code="stop")
    for each in findings:
        if each.level is Level.NOTE:
            say("note", f"{each.what} ({each.hint})" if each.hint else each.what)


def put_in_force(known: Held, say: Say) -> None:
    """Installs and proves; `Unsafe` when sshd cannot be brought to it, and then nothing is left of a first try."""
    first = not known.pins.sshd.drop_in.exists()
    obey.install(known, words=True)
    obey.put_revoked(known)
    problem = probe(known)
    if problem and first:
        say("undo", problem)
        obey.remove(render(known.host_trust()), known.pins.sshd)
        raise Unsafe(f"put back, because {problem}", "is this the sshd that listens? see --etc, --sshd, --reload")
    if problem:
        raise Unsafe(problem, "reload sshd, then: jitgate agent doctor")
    say("probe", "the sshd that listens shows the new host certificate")


def probe(known: Held) -> str:
    """Why the sshd that listens does not do what was installed; empty when it shows the certificate, or none runs."""
    trust, sshd = known.host_trust(), known.pins.sshd
    wanted = " ".join(trust.host_certificate.line().split()[:2])
    said = sshd.effective()
    deadline = time.monotonic() + _PROBE_S
    answered = False
    while True:
        for listener in said.get("listenaddress", ()):
            address, _, port = listener.rpartition(":")
            address = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}.get(address, address.strip("[]"))  # noqa: S104  # compared with
            if not _listens(address, int(port)):
                continue
            answered = True
            command = ["ssh-keyscan", "-c", "-T", "5", "-p", port, "-t", _scan_type(trust.host_key.algorithm), address]
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)  # noqa: S603  # no shell
            except OSError as error:
                return f"ssh-keyscan does not run: {error.strerror}"
            if any(line.endswith(wanted) for line in done.stdout.splitlines()):
                return ""
        if not answered:
            return ""  # socket activation that is switched off, or a first start to come: the script said so
        if time.monotonic() > deadline:
            return "the sshd that listens does not show the new host certificate"
        time.sleep(0.2)


def _listens(address: str, port: int) -> bool:
    try:
        with socket.create_connection((address, port), 5):
            return True
    except OSError:
        return False


def _scan_type(algorithm: str) -> str:
    return {"ssh-ed25519": "ed25519", "ssh-rsa": "rsa"}.get(algorithm, "ecdsa")


def _known(place: Place, token: Invitation) -> Held | None:
    """What a join that was cut off left, if it is this one's: same installation, realm and name, sound and complete."""
    try:
        found = pins.read(place.config)
    except Error:
        return None
    if (found.installation, found.realm, found.host) != (token.installation, token.realm, token.name):
        raise Unsafe(
            f"this host has joined as {found.host} of realm {found.realm} already",
            "undo that first: jitgate agent leave",
            code="joined",
        )
    if (durable.get(place.state / _JOINED_BY, 64) or b"").decode("ascii", "replace") != token.mark:
        return None  # another word of the owner's: asked anew
    known = held.load(found, place.state)
    return known if known.trust and known.certificate else None


def _ask(place: Place, token: Invitation, clock: Clock, say: Say, wait: float) -> Held:
    path, key = hostkey.choose(place.sshd, place.sshd.effective())
    authority = tls.authority_of(token.url, token.tls_pin, place.authority)
    until = time.monotonic() + wait
    while True:
        now = clock()
        message = join_bytes(token.installation, token.realm, token.name, token.token_hash, now)
        status, answer = tls.post(
            token.url,
            _PATH,
            {
                **token.shown(),
                "realm": token.realm,
                "name": token.name,
                "host_key": key.public.line(),
                "time": now,
                "signature": b64encode(hostkey.prove(key, NAMESPACE, message)).decode(),
                "facts": facts(place.sshd),
            },
            authority,
        )
        if status != _ACCEPTED:
            break
        if time.monotonic() >= until:
            raise ApprovalPending(
                f"there is a host {token.name} already: an owner has to agree that this is it",
                f"jitctl hosts approve {token.name}, then run this again",
            )
        say("wait", f"for an owner: jitctl hosts approve {token.name}")
        time.sleep(_POLL_S)
    say("joined", f"{token.url} as {token.name} by {path} {key.public.fingerprint}")
    return _take(place, token, path, key.public.line(), answer, clock)


def _take(place: Place, token: Invitation, path: Path, key_line: str, unverified: object, clock: Clock) -> Held:
    """Believes of the answer what the token's root key vouches for, and keeps it."""
    fields = Fields(unverified, "the answer")
    host = fields.fields("host")
    told = Pins(
        url=token.url,
        installation=token.installation,
        realm=token.realm,
        host_id=host.text("id", 26),
        host=token.name,
        logins=tuple(check_name("login", each) for each in host.each("logins", _LOGINS_MAX, text_item(32, "a login"))),
        root=pinned_root(fields.text("root", LINE_MAX), token.root),
        tls_pin=token.tls_pin,
        gateways=tuple(fields.each("gateways", pins.MAX_GATEWAYS, _gateway, least=1)),
        host_key=path,
        sshd=place.sshd,
        sshd_at=str(local_sshd(place.sshd.effective()) or ""),
    )
    if (host.text("name", 63), host.text("realm", 32)) != (token.name, token.realm):
        raise BadInput("the service answers for another host than the token's", code="other_host")
    known = Held(told, place.state)
    trust, bundle = take_envelope(fields.take("trust"), TRUST_MAX), take_envelope(fields.take("bundle"), BUNDLE_MAX)
    held.accept_trust(known, trust)
    held.accept_certificate(known, fields.text("certificate", _LINE_MAX), clock(), key_line=key_line)
    checked, krl = held.check_bundle(known, bundle, from_base64(fields.text("krl", KRL_MAX * 4 // 3 + 4), KRL_MAX))
    held.keep_bundle(known, bundle, checked, krl)
    pins.write(place.config, told)
    durable.put(place.state / _JOINED_BY, token.mark.encode(), durable.PRIVATE)
    return known


def _gateway(unverified: object) -> Gateway:
    fields = Fields(unverified, "a gateway")
    return Gateway(fields.text("address", 255), fields.number("port", 1, 65535), fields.text("server_name", 255))


def facts(sshd: Sshd) -> dict[str, str]:
    """About this machine, for the owner's eyes: nothing is decided by it."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        system = ""
    version = ".".join(map(str, sshd.version))
    said = {
        "agent": __version__,
        "os": system,
        "sshd": version,
        "hostname": socket.gethostname(),
        "arch": os.uname().machine,
    }
    return {name: "".join(c for c in text if c.isascii() and c.isprintable())[:100] for name, text in said.items()}
