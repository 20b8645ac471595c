"""The POSIX script that makes a host trust a realm: one implementation, for `jitgate host trust` and without Python."""

import re
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

from jitgate.agent.trust import HostTrust
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.errors import BadInput
from jitgate.ssh.pubkey import Algorithm

_PARTS: Final = ("trust.sh", "trust_change.sh")
_DATA: Final = "# @DATA@\n"
# What base64, key types, fingerprints and checked names are made of. No quote, no backslash, no $: between single
# quotes all of it is data to every shell.
_SAFE: Final = re.compile(r"[A-Za-z0-9+/=@.:_ \n-]+")
_CA_SIGNATURE: Final = {Algorithm.RSA: "rsa-sha2-512"}  # other keys sign by the name of their own type


def render(trust: HostTrust) -> str:
    """The script for one host; `BadInput` should a value not be safe to stand in it."""
    data = {
        "realm": trust.realm,
        "host": trust.host,
        "scopes": " ".join(trust.scopes),
        "logins": " ".join(trust.logins),
        "user_ca": "\n".join(key.line() for key in trust.user_ca),
        "ca_signatures": " ".join(sorted({_CA_SIGNATURE.get(k.algorithm, k.algorithm) for k in trust.user_ca})),
        "host_key": trust.host_key.line(),
        "host_key_print": trust.host_key.fingerprint,
        "host_cert": trust.host_certificate.line(),
        "host_cert_ends": str(trust.host_certificate.body.valid_before),
        "host_cert_until": rfc3339(trust.host_certificate.body.valid_before * SECOND),
    }
    block = "".join(f"{name}={quoted(value)}\n" for name, value in data.items())
    template = "".join((files("jitgate.agent") / part).read_text("ascii") for part in _PARTS)
    return template.replace(_DATA, block, 1)


def quoted(value: str) -> str:
    """`value` in single quotes, as every shell reads it back; `BadInput` unless it is of the allowed characters."""
    if not _SAFE.fullmatch(value):
        raise BadInput("a value is not safe to stand in a script")
    return f"'{value}'"


def run(
    script: str, arguments: Sequence[str], *, become: Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> int:
    """Runs the script by /bin/sh and returns its exit status; it speaks for itself on stdout and stderr.

    `become` stands in front of the command (`setpriv ...`), so that the demo can act as its hosts' own user.
    """
    with _written(script, readable=bool(become)) as path:
        command = [*become, "/bin/sh", path, *arguments]
        return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603  # arguments, no shell's line


def run_quietly(script: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """The same with its words kept: for a program that nobody watches."""
    with _written(script) as path:
        command = ["/bin/sh", path, *arguments]
        return subprocess.run(  # noqa: S603  # arguments, no shell's line
            command, capture_output=True, text=True, errors="replace", check=False, stdin=subprocess.DEVNULL
        )


@contextmanager
def _written(script: str, *, readable: bool = False) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="jitgate-trust-") as folder:
        path = Path(folder) / "trust.sh"
        path.write_text(script, "ascii")
        if readable:  # another user reads it; it holds public data only
            path.parent.chmod(0o755)
        yield str(path)
