"""What an operator's command writes for the signer: whole, its owner's, and nothing that the signer would refuse."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from jitgate.adapters.signers.files import load_key, write_new
from jitgate.app.key_files import make_next_key, make_realm, replace_rules, tables_of, trust_elsewhere
from jitgate.app.settings import Settings
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import default_rules, read_rules
from jitgate.core.errors import BadInput, Conflict
from jitgate.ssh.private import generate_ed25519

NOBODY = 65534


@pytest.fixture
def settings() -> Iterator[Settings]:
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder:  # another user has to get there
        Path(folder).chmod(0o755)
        yield installed(Path(folder))


def installed(folder: Path) -> Settings:
    found = Settings(state=folder / "state", url="https://jit.example.com")
    found.keys_folder.mkdir(parents=True, mode=0o700)
    write_new(found.keys_folder / "user_ca", b"")
    text = default_rules("jit.example.com/log", "default", user_key="user_ca", host_key="host_ca", log_key="log")
    write_new(found.state / "signer.toml", text.encode())
    return found


def rules_text(settings: Settings) -> str:
    return (settings.state / "signer.toml").read_text()


def test_a_realm_is_keys_and_tables_and_no_file_of_one_realm_is_anothers(settings: Settings):
    make_realm(settings, "eu")
    rules = read_rules(rules_text(settings))
    for file, kind in (("eu.user_ca", CaKind.USER), ("eu.host_ca", CaKind.HOST), ("eu.interception_ca", "")):
        assert load_key(settings.keys_folder, file).public.line()
        ceiling = rules.ceiling_of(file)
        assert ceiling is not None
        assert ceiling.realm == "eu", kind
    assert rules.ceiling_of("user_ca-eu").realm == "default"  # type: ignore[union-attr]  # there is one
    with pytest.raises(Conflict, match="has a table for the realm eu"):
        make_realm(settings, "eu")


def test_what_was_interrupted_goes_on_with_the_keys_that_are_there(settings: Settings):
    make_realm(settings, "eu")
    before = load_key(settings.keys_folder, "eu.user_ca").public
    (settings.keys_folder / "eu.host_ca").unlink()
    replace_rules(settings.state / "signer.toml", rules_text(settings).replace(tables_of("eu"), ""))
    make_realm(settings, "eu")
    assert load_key(settings.keys_folder, "eu.user_ca").public == before
    assert load_key(settings.keys_folder, "eu.host_ca").public != before


def test_a_next_key_lies_beside_the_one_before(settings: Settings):
    assert make_next_key(settings, "default", CaKind.USER, "user_ca") == "user_ca-2"
    assert make_next_key(settings, "default", CaKind.USER, "user_ca") == "user_ca-3"
    keys = {load_key(settings.keys_folder, f"user_ca-{number}").public for number in (2, 3)}
    assert len(keys) == 2


@pytest.mark.parametrize("head", [b"age-encryption.org/v1\n", b"-----BEGIN AGE ENCRYPTED FILE-----\n"])
def test_no_plain_file_follows_a_key_that_is_kept_better(settings: Settings, head: bytes):
    (settings.keys_folder / "user_ca").write_bytes(head + b"...")
    for standing in ("user_ca", "pkcs11:user_ca", "transit:user_ca"):
        with pytest.raises(BadInput, match="is kept better than in a plain file"):
            make_next_key(settings, "default", CaKind.USER, standing)
    assert sorted(path.name for path in settings.keys_folder.iterdir()) == ["user_ca"]


def test_a_key_kept_elsewhere_is_named_in_its_own_table(settings: Settings):
    make_realm(settings, "eu")
    first, second, third = (generate_ed25519().public for _ in range(3))
    trust_elsewhere(settings, "eu", CaKind.USER, first)
    trust_elsewhere(settings, "eu", CaKind.USER, second)
    trust_elsewhere(settings, "default", CaKind.HOST, third)
    found = {(type(each).__name__, each.realm): each.trusted for each in read_rules(rules_text(settings)).ceilings}
    assert found["UserCeiling", "eu"] == (first, second)
    assert found["HostCeiling", "default"] == (third,)
    assert sum(map(len, found.values())) == 3
    with pytest.raises(BadInput, match="trusted twice"):
        trust_elsewhere(settings, "default", CaKind.USER, third)
    with pytest.raises(BadInput, match=r"no \[\[user\]\] table of the realm us"):
        trust_elsewhere(settings, "us", CaKind.USER, generate_ed25519().public)


def test_a_text_that_the_signer_would_refuse_is_not_written(settings: Settings):
    before = rules_text(settings)
    with pytest.raises(BadInput):
        replace_rules(settings.state / "signer.toml", before + "[[user]]\n")
    assert rules_text(settings) == before
    assert [path.name for path in settings.state.iterdir() if "new" in path.name] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another user")
def test_root_writes_what_the_signers_user_may_write_and_nothing_else(settings: Settings):
    """The folder's owner may put a link there: root must not follow it with its own rights."""
    for path in (settings.state, settings.keys_folder, *settings.keys_folder.iterdir(), settings.state / "signer.toml"):
        os.chown(path, NOBODY, NOBODY)
    make_realm(settings, "eu")
    assert {path.stat().st_uid for path in settings.keys_folder.iterdir()} == {NOBODY}
    assert (settings.state / "signer.toml").stat().st_uid == NOBODY
    root_only = settings.state.parent / "root"
    root_only.mkdir(mode=0o700)
    (settings.keys_folder / "user_ca-2").symlink_to(root_only / "made")
    assert os.geteuid() == 0
    with pytest.raises(OSError, match=r"exists|denied"):
        make_next_key(settings, "default", CaKind.USER, "user_ca")
    assert list(root_only.iterdir()) == []
