"""What every keeper of CA keys does: files, sealed files, OpenSSH's agent, a token of SoftHSM, OpenBao by transit."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.keepers import age_identity, empty_token, ssh_agent, transit
from tests.unit.ca.samples import private
from tools.parts import find

from jitgate.adapters.custody.agent import Agent
from jitgate.adapters.custody.folder import Folder, generate
from jitgate.adapters.custody.pkcs11 import Token
from jitgate.adapters.custody.port import Custody, Guarded
from jitgate.adapters.custody.transit import Transit
from jitgate.ca.places import Pkcs11Place
from jitgate.core.errors import BadInput, Conflict, Error, NotFound
from jitgate.ssh.private import SoftwareKey
from jitgate.ssh.pubkey import Algorithm, PublicKey
from jitgate.ssh.sshsig import armor, encode, signed_bytes
from jitgate.ssh.wire import Reader

ALGORITHMS = (Algorithm.ED25519, Algorithm.ECDSA_256, Algorithm.ECDSA_384, Algorithm.ECDSA_521, Algorithm.RSA)


@dataclass(frozen=True)
class Keeper:
    """`name_of`: what a key that was put as `name` is asked for by."""

    custody: Custody
    makes: bool = True
    name_of: Callable[[str, PublicKey], str] = lambda name, _key: name


def in_files(folder: Path, _stack: ExitStack, _request: pytest.FixtureRequest) -> Keeper:
    folder.chmod(0o700)
    return Keeper(Folder(folder))


def in_sealed_files(folder: Path, _stack: ExitStack, _request: pytest.FixtureRequest) -> Keeper:
    keys = folder / "keys"
    keys.mkdir(mode=0o700)
    return Keeper(Folder(keys, age_identity(folder), sealing=True))


def in_agent(_folder: Path, stack: ExitStack, _request: pytest.FixtureRequest) -> Keeper:
    place = stack.enter_context(ssh_agent())
    return Keeper(Agent(place), makes=False, name_of=lambda _name, key: key.fingerprint)


def in_token(_folder: Path, _stack: ExitStack, request: pytest.FixtureRequest) -> Keeper:
    place: Pkcs11Place = request.getfixturevalue("token_place")
    empty_token(place)
    return Keeper(Token(place))


def in_transit(folder: Path, _stack: ExitStack, request: pytest.FixtureRequest) -> Keeper:
    return Keeper(Transit(transit(request.getfixturevalue("openbao"), folder)[1]))


@pytest.fixture(params=[in_files, in_sealed_files, in_agent, in_token, in_transit])
def keeper(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Keeper]:
    with ExitStack() as stack:
        found: Keeper = request.param(tmp_path, stack, request)
        try:
            yield found
        finally:
            found.custody.close()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_that_was_put_there_signs(keeper: Keeper, algorithm: Algorithm):
    key = generate(algorithm)
    keeper.custody.put("user_ca", key)
    found = keeper.custody.key(keeper.name_of("user_ca", key.public))
    assert found.public == key.public
    for data in (b"", b"x" * 2000):
        signature = found.sign(data)
        key.public.verify(signature, data)
        assert Reader(signature).text() == ("rsa-sha2-512" if algorithm is Algorithm.RSA else algorithm)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_key_that_was_made_there_signs(keeper: Keeper, algorithm: Algorithm):
    if not keeper.makes:
        with pytest.raises(BadInput):
            keeper.custody.make("user_ca", algorithm)
        return
    made = keeper.custody.make("user_ca", algorithm)
    assert made.algorithm is algorithm
    found = Guarded(keeper.custody.key("user_ca"))
    assert found.public == made
    made.verify(found.sign(b"data"), b"data")


def test_what_it_signs_is_a_certificate_for_openssh_too(keeper: Keeper, tmp_path: Path):
    """The oracle: a detached signature that `ssh-keygen -Y verify` takes."""
    key = private("user")
    keeper.custody.put("user_ca", key)
    found = keeper.custody.key(keeper.name_of("user_ca", key.public))
    signature = tmp_path / "signature"
    signature.write_text(armor(encode(found.public, "test", found.sign(signed_bytes("test", b"hello")))))
    signers = tmp_path / "signers"
    signers.write_text(f"ca {key.public.line()}\n")
    done = subprocess.run(
        [find(["ssh-keygen"])["ssh-keygen"], "-Y", "verify", "-f", signers, "-I", "ca", "-n", "test", "-s", signature],
        input=b"hello",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_two_keys_are_two(keeper: Keeper):
    for name in ("user", "host"):
        keeper.custody.put(name, private(name))
    for name in ("user", "host"):
        key = private(name).public
        found = keeper.custody.key(keeper.name_of(name, key))
        key.verify(found.sign(b"data"), b"data")


def test_a_key_that_is_not_there(keeper: Keeper):
    with pytest.raises(NotFound):
        keeper.custody.key(keeper.name_of("nobody", private("nobody").public))


def test_what_is_there_is_not_written_over(keeper: Keeper):
    keeper.custody.put("user_ca", private("user"))
    with pytest.raises(Conflict):
        keeper.custody.put("user_ca", private("user"))
    if keeper.makes:
        with pytest.raises(Conflict):
            keeper.custody.make("user_ca", Algorithm.ED25519)
    found = keeper.custody.key(keeper.name_of("user_ca", private("user").public))
    assert found.public == private("user").public


def test_only_a_folder_lets_its_keys_out(keeper: Keeper):
    keeper.custody.put("user_ca", private("user"))
    found = keeper.custody.key(keeper.name_of("user_ca", private("user").public))
    assert isinstance(found, SoftwareKey) == isinstance(keeper.custody, Folder)


def test_a_keeper_that_is_closed_is_opened_again(keeper: Keeper):
    keeper.custody.put("user_ca", private("user"))
    name = keeper.name_of("user_ca", private("user").public)
    for _ in range(2):
        keeper.custody.close()
        found = keeper.custody.key(name)
        found.public.verify(found.sign(b"data"), b"data")


def test_a_security_keys_algorithm_is_made_nowhere(keeper: Keeper):
    with pytest.raises(Error):
        keeper.custody.make("user_ca", Algorithm.SK_ED25519)
