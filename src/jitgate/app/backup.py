"""A backup key's private half: made, drilled and brought by the operator's own command, never by the service.

The drill proves that hosts take what the key signs, and opens none: it starts an sshd of its own on loopback, has the
very script of `jitgate host trust` install what the realm's hosts trust, and logs in there with a certificate for a
host that does not exist. Then the same certificate by a key that nobody trusts has to be refused.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from secrets import token_bytes, token_hex

from jitgate.adapters.signers.files import write_key, write_new
from jitgate.agent.trust import HostTrust, dump
from jitgate.app.local_sshd import LocalHost, find_programs, start
from jitgate.app.local_trust import install_trust
from jitgate.ca.names import host_alias, host_key_id, host_pattern, principal
from jitgate.ca.realms import CaKind
from jitgate.core.errors import BadInput, NotFound, Unreachable
from jitgate.core.secret import Secret
from jitgate.ssh.cert import Certificate, CertificateBody, CertType, join, to_be_signed
from jitgate.ssh.private import MAX_FILE, SoftwareKey, generate_ed25519, load_private_key
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line

LOGIN = "drill"
LASTS_S = 120
LOGIN_S = 30.0
PASSPHRASE_MIN = 12  # characters; the file may lie in a drawer for years


def make_backup(path: Path, passphrase: Secret[bytes]) -> SoftwareKey:
    """A new key in a new file, 0600, which opens by the passphrase only. Its public half lies beside it."""
    if len(passphrase.reveal()) < PASSPHRASE_MIN:
        raise BadInput(f"a passphrase of less than {PASSPHRASE_MIN} characters", "several words are easy to keep")
    key = generate_ed25519()
    write_new(path, key.sealed(passphrase))
    path.with_name(f"{path.name}.pub").write_text(f"{key.public.line('jitgate backup')}\n")
    return key


def open_backup(path: Path, passphrase: Secret[bytes]) -> SoftwareKey:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE + 1)
    except OSError as error:
        raise NotFound(f"cannot read {path}: {error.strerror}", "the file that jitgate ca backup make wrote") from None
    return load_private_key(content, passphrase)


def drill(key: SoftwareKey, kind: CaKind, realm: str, trusted: Sequence[PublicKey], hosts: Sequence[str]) -> None:
    """`Unreachable` if what the key signs is not taken, `BadInput` for a kind that no host sees."""
    if kind not in {CaKind.USER, CaKind.HOST}:
        raise BadInput(f"no host takes what {kind} keys sign", "the gateway's own names are tried with recording")
    name = f"drill-{token_hex(4)}"
    while name in hosts:
        name = f"drill-{token_hex(4)}"
    with tempfile.TemporaryDirectory(prefix="jitgate-drill-") as folder:
        Path(folder).chmod(0o755)  # its sshd may run as another user; it holds nothing that is worth anything
        host = start(Path(folder) / name, name, (LOGIN,), find_programs())
        try:
            _Drill(Path(folder), host, realm, kind, key, tuple(trusted)).run()
        finally:
            host.stop()


@dataclass(frozen=True, slots=True)
class _Drill:
    folder: Path
    host: LocalHost
    realm: str
    kind: CaKind
    key: SoftwareKey
    trusted: tuple[PublicKey, ...]

    def run(self) -> None:
        own = generate_ed25519()  # stands for the realm's key of the other kind
        users, machines = (self.key, own) if self.kind is CaKind.USER else (own, self.key)
        user_ca = self.trusted if self.kind is CaKind.USER else (own.public,)
        host_ca = self.trusted if self.kind is CaKind.HOST else (own.public,)
        self._trust(machines, user_ca)
        said = self._log_in(users, host_ca)
        if said:
            raise Unreachable(f"what the key signs is not taken: {said}", "jitgate ca ls: is it listed?")
        stranger = generate_ed25519()
        if self.kind is CaKind.USER:
            refused = self._log_in(stranger, host_ca)
        else:
            refused = self._log_in(users, (stranger.public,))
        if not refused:
            raise Unreachable("the drill's own sshd takes anything: it proves nothing", "tell who makes jitgate")

    def _trust(self, machines: SoftwareKey, user_ca: tuple[PublicKey, ...]) -> None:
        key, name = parse_public_key_line(self.host.host_key)[0], self.host.name
        alias = host_alias(self.realm, name)
        line = _certify(machines, CertType.HOST, key, (alias, name), host_key_id(self.realm, name))
        trust = HostTrust(
            realm=self.realm,
            host=name,
            alias=alias,
            scopes=(f"host:{name}",),
            logins=(LOGIN,),
            user_ca=user_ca,
            host_key=key,
            host_certificate=line,
        )
        install_trust(self.host, dump(trust), self.folder / "drill.trust")

    def _log_in(self, users: SoftwareKey, host_ca: tuple[PublicKey, ...]) -> str:
        """Empty if it worked, else what ssh said."""
        ssh = shutil.which("ssh")
        if ssh is None:
            raise NotFound("ssh is not installed", "on Debian: apt-get install openssh-client")
        person = generate_ed25519()
        files = Path(tempfile.mkdtemp(dir=self.folder))
        write_key(files, "id", person)
        mine = (principal(LOGIN, self.host.name),)
        certificate = _certify(users, CertType.USER, person.public, mine, "jitgate drill")
        (files / "id-cert.pub").write_text(certificate.line() + "\n")
        pattern = host_pattern(self.realm)
        (files / "known").write_text("".join(f"@cert-authority {pattern} {key.line()}\n" for key in host_ca))
        options = {
            "CertificateFile": files / "id-cert.pub",
            "IdentityFile": files / "id",
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": files / "known",
            "GlobalKnownHostsFile": "/dev/null",
            "HostKeyAlias": host_alias(self.realm, self.host.name),
            "Port": self.host.port,
        }
        command = [ssh, "-F", "none", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
        command += [f"{LOGIN}@{self.host.address}", "echo drilled"]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSH_")}
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, check=False, timeout=LOGIN_S
            )
        except subprocess.TimeoutExpired:
            return f"ssh did not end within {LOGIN_S:.0f} s"
        return "" if (done.returncode, done.stdout) == (0, "drilled\n") else done.stderr.strip() or "ssh failed"


def _certify(ca: SoftwareKey, kind: CertType, key: PublicKey, principals: tuple[str, ...], key_id: str) -> Certificate:
    now = int(time.time())
    body = CertificateBody(
        type=kind,
        key=key,
        serial=int.from_bytes(token_bytes(7), "big") + 1,
        key_id=key_id,
        principals=principals,
        valid_after=now - 60,
        valid_before=now + LASTS_S,
        critical_options=(),
        extensions=(),
        ca=ca.public,
    )
    tbs = to_be_signed(body, token_bytes(32))
    return join(tbs, ca.sign(tbs))
