"""Real keepers of CA keys for tests: OpenSSH's own agent, a token of SoftHSM, the transit engine of an OpenBao."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from tools.debian import MissingError
from tools.parts import find

from jitgate.adapters.signers.process import SignerSettings
from jitgate.app.demo.openbao import OpenBao
from jitgate.ca.places import AgentPlace, Pkcs11Place, SealedPlace, TransitPlace

PIN = "0451"
_mounts: Iterator[int] = count(1)

TRANSIT_POLICY = """\
path "{mount}/keys/*" {{ capabilities = ["read"] }}
path "{mount}/sign/*" {{ capabilities = ["update"] }}
"""


@contextmanager
def ssh_agent(*options: str) -> Iterator[AgentPlace]:
    """A socket's path is at most 108 bytes long, so it lies in a folder of its own."""
    with TemporaryDirectory(prefix="jg-agent-") as folder:
        path = f"{folder}/agent"
        program = str(find(["ssh-agent"])["ssh-agent"])
        process = subprocess.Popen([program, "-D", "-a", path, *options], stdout=subprocess.DEVNULL)
        try:
            until = time.monotonic() + 10
            while not _listens(path):
                assert time.monotonic() < until
                time.sleep(0.02)
            yield AgentPlace(path)
        finally:
            process.terminate()
            process.wait()


@contextmanager
def signer_apart(files: SignerSettings, users: str = "") -> Iterator[SignerSettings]:
    """The signer of these files, started by itself; how it is reached."""
    with TemporaryDirectory(prefix="jg-signer-") as folder:
        path = f"{folder}/socket"
        where = ("--keys", files.keys, "--rules", files.rules, "--state", files.state)
        who = ("--listen", path, "--for", users or str(os.getuid()))
        command = [sys.executable, "-I", "-m", "jitgate", "signer", *who, *map(str, where)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE)
        try:
            until = time.monotonic() + 20
            while not _listens(path) and process.poll() is None:
                assert time.monotonic() < until
                time.sleep(0.02)
            yield replace(files, socket=path)
        finally:
            process.terminate()
            _, said = process.communicate()
            assert b"Traceback" not in said, said.decode()


def softhsm(folder: Path, token: str = "jitgate") -> Pkcs11Place:
    """A new token in files below `folder`."""
    try:
        parts = find(["softhsm2-util", "libsofthsm2.so"])
    except MissingError as missing:
        import pytest  # noqa: PLC0415  # the bench, which has no pytest, does not come here

        pytest.skip(" ".join(missing.args))
    (folder / "tokens").mkdir(mode=0o700, parents=True)
    config = folder / "softhsm2.conf"
    config.write_text(f"directories.tokendir = {folder}/tokens\nlog.level = ERROR\n")
    module = str(parts["libsofthsm2.so"])
    options = ("--init-token", "--free", "--label", token, "--so-pin", "12345678", "--pin", PIN)
    subprocess.run(
        [parts["softhsm2-util"], "--module", module, *options],
        env={"SOFTHSM2_CONF": str(config)},
        check=True,
        capture_output=True,
    )
    return Pkcs11Place(module, token, str(secret(folder / "pin", PIN)), {"SOFTHSM2_CONF": str(config)})


def transit(bao: OpenBao, folder: Path, policy: str = TRANSIT_POLICY) -> tuple[TransitPlace, TransitPlace]:
    """An engine of its own: with a token that may sign only, and with one that may do everything there."""
    mount = f"transit-{next(_mounts)}"
    bao.ask("POST", f"sys/mounts/{mount}", {"type": "transit"})
    places = []
    for name, text in (("sign", policy), ("all", 'path "{mount}/*" {{ capabilities = ["create", "read", "update"] }}')):
        bao.ask("POST", f"sys/policies/acl/{mount}-{name}", {"policy": text.format(mount=mount)})
        body = {"policies": [f"{mount}-{name}"], "period": "1h", "no_parent": True}
        token = bao.ask("POST", "auth/token/create", body)["auth"]["client_token"]
        file = secret(folder / f"{mount}-{name}.token", token)
        places.append(TransitPlace(bao.url, str(file), mount, bao.ca_file))
    return places[0], places[1]


def age_identity(folder: Path) -> SealedPlace:
    from pyrage import x25519  # noqa: PLC0415  # an extra

    return SealedPlace(str(secret(folder / "age.key", f"# a test's\n{x25519.Identity.generate()}\n")))


def secret(path: Path, text: str) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.touch(0o600)
    path.write_text(text)
    return path


def table(name: str, place: AgentPlace | Pkcs11Place | SealedPlace | TransitPlace) -> str:
    """As it stands in `signer.toml`. JSON's texts and numbers are TOML's too."""
    values = {each.name: getattr(place, each.name) for each in fields(place)}
    return f"\n[{name}]\n" + "".join(f"{key} = {_toml(value)}\n" for key, value in values.items() if value)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {json.dumps(text)}" for key, text in value.items()) + "}"
    return json.dumps(value)


def put_elsewhere(settings: SignerSettings, kept: Mapping[str, str], tables: str) -> None:
    """Name these keys in `signer.toml` by where they lie now, and take their files away."""
    text = settings.rules.read_text()
    for name, place in kept.items():
        text = text.replace(f'keys = ["{name}", ', f'keys = ["{place}", ').replace(
            f'key = "{name}"', f'key = "{place}"'
        )
        (settings.keys / name).unlink()
    settings.rules.write_text(text + tables)


def empty_token(place: Pkcs11Place) -> None:
    """In this process: the library is loaded into it."""
    import pkcs11  # noqa: PLC0415  # an extra

    os.environ.update(place.environment or {})
    token = pkcs11.lib(place.module).get_token(token_label=place.token)
    with token.open(rw=True, user_pin=PIN) as session:
        for each in list(session.get_objects()):
            each.destroy()


def take_token_away(place: Pkcs11Place) -> None:
    assert place.environment
    shutil.rmtree(Path(place.environment["SOFTHSM2_CONF"]).parent / "tokens")


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        return connection.connect_ex(path) == 0
