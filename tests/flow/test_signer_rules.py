"""The real signer while somebody edits its rules."""

import asyncio
from pathlib import Path

import pytest
from tests.conformance.signing import request, signer_files
from tests.flow.test_key_folder import refusals, replace, signs, until
from tests.unit.ca.samples import private, public

from jitgate.adapters.signers.files import write_key
from jitgate.adapters.signers.process import SignerSettings, open_signer
from jitgate.ca.model import SignerRefusal
from jitgate.ca.realms import CaKind
from jitgate.ca.rules import realm_tables

EU = {CaKind.USER: "eu.user", CaKind.HOST: "eu.host"}


@pytest.fixture
def files(tmp_path: Path) -> SignerSettings:
    return signer_files(tmp_path)


def edit(files: SignerSettings, old: str, new: str) -> None:
    text = files.rules.read_text()
    assert old in text
    replace(files.rules, text.replace(old, new, 1).encode())


async def test_a_realm_is_added_without_a_restart_and_its_key_signs_for_it_alone(files):
    async with open_signer(files) as signer:
        for name in EU.values():
            write_key(files.keys, name, private(name))
        replace(files.rules, (files.rules.read_text() + realm_tables("eu", EU)).encode())
        held = await until(signer, lambda held: len(held.authorities) == 4)
        assert {(each.realm, each.kind) for each in held.authorities if each.realm == "eu"} == {
            ("eu", CaKind.USER),
            ("eu", CaKind.HOST),
        }
        ours, theirs = await signer.sign([request(realm="eu", ca="eu.user"), request(realm="default", ca="user")])
        assert isinstance(ours, bytes)
        assert isinstance(theirs, bytes)
        crossing = [request(realm="default", ca="eu.user"), request(realm="eu", ca="user")]
        for answer in await signer.sign(crossing):
            assert isinstance(answer, SignerRefusal)
            assert answer.code == "authority"
        (entry, *_) = [each for each in (await signer.signed()).entries if each.ca == public("eu.user").fingerprint]
        assert entry.realm == "eu"


async def test_a_limit_that_is_lowered_holds_at_once_and_a_bad_text_changes_nothing(files):
    async with open_signer(files) as signer:
        assert await signs(signer, "user")
        edit(files, "denied_logins = []", 'denied_logins = ["ubuntu"]')
        while await signs(signer, "user"):  # noqa: ASYNC110  # it is another process that changes
            await asyncio.sleep(0.1)
        (refused,) = await signer.sign([request()])
        assert isinstance(refused, SignerRefusal)
        assert refused.code == "login"

        edit(files, 'denied_logins = ["ubuntu"]', "denied_logins = 7")
        held = await until(signer, lambda held: bool(held.refused))
        assert "denied_logins: not a list; the rules before it still hold" in refusals(held)["signer.toml"]
        assert not await signs(signer, "user")  # what it says is not followed, in either direction

        edit(files, "denied_logins = 7", "denied_logins = []")
        await until(signer, lambda held: not held.refused)
        assert await signs(signer, "user")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('key = "log"', 'key = "other"', "another log key or origin"),
        ('origin = "', 'origin = "x.', "another log key or origin"),
        ("[log]", "[[log]]", "not a table"),
        ('realm = "default"', 'realm = "Default"', "realm"),
    ],
)
async def test_what_is_not_followed_is_said(files, old, new, words):
    async with open_signer(files) as signer:
        edit(files, old, new)
        held = await until(signer, lambda held: bool(held.refused))
        assert words in refusals(held)["signer.toml"]
        assert await signs(signer, "user")


async def test_rules_that_others_can_write_are_not_followed(files):
    async with open_signer(files) as signer:
        text = files.rules.read_text().replace("max_principals = 32", "max_principals = 200")
        replace(files.rules, text.encode(), 0o666)
        held = await until(signer, lambda held: bool(held.refused))
        assert "has mode 0666" in refusals(held)["signer.toml"]
        assert await signs(signer, "user")


async def test_a_table_that_is_taken_out_lets_its_keys_go(files):
    async with open_signer(files) as signer:
        edit(files, 'keys = ["user", "user-*"]', 'keys = ["nobody"]')
        await until(signer, lambda held: len(held.authorities) == 1)
        assert not await signs(signer, "user")
