"""The person's key: our own file, another file, or a key in an agent or a security key through ssh-keygen."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from jitgate.cli.files import read_private, write_private
from jitgate.core.errors import BadInput, NotFound, Unsafe
from jitgate.core.text import shown
from jitgate.identity.proof import NAMESPACE, ProofClaim, make_proof
from jitgate.ssh.private import SoftwareKey, dump_private_key, generate_ed25519, load_private_key
from jitgate.ssh.pubkey import PublicKey, parse_public_key_line
from jitgate.ssh.sshsig import dearmor
from jitgate.ssh.wire import FormatError

_KEY_MAX = 1 << 16


@dataclass(frozen=True, slots=True)
class Signer:
    """`software` is None where only ssh-keygen can sign: a passphrase, a security key, an agent."""

    public: PublicKey
    file: Path
    software: SoftwareKey | None


def own_key(path: Path, comment: str) -> Signer:
    """The one private key of a profile, made on first use: ed25519, no passphrase, mode 0600."""
    try:
        key = load_private_key(read_private(path, _KEY_MAX))
    except NotFound:
        key = generate_ed25519()
        write_private(path, dump_private_key(key, comment).reveal())
    write_private(path.with_name(path.name + ".pub"), f"{key.public.line(comment)}\n".encode())
    return Signer(key.public, path, key)


def load_signer(path: Path, *, own: bool = False) -> Signer:
    """The key of a file; `own`: jitctl's, never a link.

    A public key, or a private one that does not open, signs through ssh-keygen and the agent.
    """
    try:
        with path.open("rb") as file:
            start = file.read(_KEY_MAX)
    except FileNotFoundError:
        raise NotFound(f"no key file {shown(str(path), 200)}", "jitctl login makes a new one") from None
    if not start.lstrip().startswith(b"-----BEGIN"):
        return Signer(_public(start, path), path, None)
    try:
        content = read_private(path if own else path.resolve(), _KEY_MAX)
    except Unsafe as error:
        raise Unsafe(f"a private key is for its owner only: {error.what}", error.hint) from None
    try:
        key = load_private_key(content)
    except FormatError:
        beside = path.with_name(path.name + ".pub")
        if not beside.exists():
            hint = f"if it has a passphrase: ssh-keygen -y -f {path} > {beside}"
            raise NotFound(
                f"{shown(str(path), 200)} does not open, and there is no .pub file beside it", hint
            ) from None
        return Signer(_public(beside.read_bytes()[:_KEY_MAX], beside), path, None)
    return Signer(key.public, path, key)


def comment_of(path: Path) -> str:
    """The comment of the public key beside a private one, or of the file itself; empty where there is none."""
    for file in (path.with_name(path.name + ".pub"), path):
        try:
            return parse_public_key_line(file.read_bytes()[:_KEY_MAX].decode("ascii").strip())[1]
        except (OSError, UnicodeDecodeError, FormatError):
            continue
    return ""


def make_blob(signer: Signer, claim: ProofClaim, *, no_input: bool) -> bytes:
    """The SSHSIG over the claim. ssh-keygen gets the message on stdin and asks for passphrase or touch itself."""
    if signer.software is not None:
        return make_proof(claim, signer.public, signer.software.sign)
    environment = dict(os.environ)
    if no_input:
        environment["SSH_ASKPASS_REQUIRE"] = "never"
    try:
        done = subprocess.run(
            ["ssh-keygen", "-q", "-Y", "sign", "-n", NAMESPACE, "-f", str(signer.file.absolute())],  # noqa: S607  # the person's own ssh
            input=claim.message(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE if no_input else None,
            env=environment,
            start_new_session=no_input,  # no terminal, so nothing can be asked
            check=False,
        )
    except FileNotFoundError:
        raise NotFound("ssh-keygen is not installed", "install the OpenSSH client") from None
    if done.returncode != 0:
        raise BadInput(
            f"ssh-keygen could not sign with {shown(str(signer.file), 200)}", "is the key in the agent: ssh-add -l"
        )
    return dearmor(done.stdout.decode("ascii", "replace"))


def _public(content: bytes, path: Path) -> PublicKey:
    try:
        return parse_public_key_line(content.decode("utf-8").strip())[0]
    except (UnicodeDecodeError, FormatError) as error:
        why = error.what if isinstance(error, FormatError) else "it is not text"
        raise BadInput(
            f"{shown(str(path), 200)} holds no key that is taken: {why}", "use ed25519, ECDSA or RSA from 3072 bits"
        ) from None
