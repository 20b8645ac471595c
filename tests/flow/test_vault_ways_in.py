"""The ways into the Vault surface: guesses are throttled, secrets kept as hashes, what is taken away ends at once."""

import json
from typing import Any

import pytest
from sqlalchemy import text
from tests.vault_world import ARTICLE, PASSWORD, SIGN_ONLY, Vault, open_vault
from tests.world import OPERATOR, World

from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.flow.audit import reconcile
from jitgate.flow.people import add_plain_person, disable_person, enable_person
from jitgate.flow.ports import Tx
from jitgate.flow.realms import leave_realm
from jitgate.ssh.cert import parse_certificate_line

SETTING = "vault.plain_logins_unregistered_keys"
pytestmark = pytest.mark.databases


async def test_guesses_wait_and_unknown_users_are_the_same(world: World):
    vault = await open_vault(world)
    await vault.user()
    seen = set()
    for name in ("testuser", "nosuchuser"):
        for guess in range(5):
            answer = await vault.send("PUT", f"auth/userpass/login/{name}", {"password": f"guess{guess}"}, "")
            seen.add((guess, answer.status, answer.body))
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1
    assert len({each for each in seen if each[0] == 0}) == 1  # one wording for wrong and unknown
    right = await vault.send("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, "")
    assert right.status == 429  # the right one too, until the wait is over
    world.clock.advance(MINUTE)
    assert (await vault.send("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, "")).status == 200
    events = await world.events("vault.refused")
    assert events[0]["detail"]["setting"] == SETTING
    assert "guess" not in json.dumps(events)


@pytest.mark.parametrize("name", ["Testuser", "TESTUSER", "testuser ", "testuser%20", "testuser/x", "test user"])
async def test_a_user_has_one_spelling(world: World, name: str):
    """CVE-2025-6004 and its kin: guesses under other spellings, counted apart."""
    vault = await open_vault(world)
    await vault.user()
    answer = await vault.send("PUT", f"auth/userpass/login/{name}", {"password": PASSWORD}, "")
    assert answer.status in (400, 403, 404)


async def test_nothing_in_the_database_opens_anything(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    role_id, secret_id = await approle(vault)

    def dump(tx: Any) -> str:
        names = ("vault_mount", "vault_entry", "vault_token", "vault_secret_id", "event")
        return repr([tx.connection.execute(text(f"SELECT * FROM {name}")).all() for name in names])  # our own

    found = await world.store.read(dump)
    assert role_id in found  # which is no secret
    for secret in (token, vault.root, secret_id, PASSWORD):
        assert secret not in found


async def approle(vault: Vault, **role: object) -> tuple[str, str]:
    if "approle/" not in (await vault.ok("GET", "sys/auth"))["data"]:
        await vault.ok("POST", "sys/auth/approle", {"type": "approle"})
    await vault.ok("PUT", "auth/approle/role/ci", {"token_policies": "ssh-access", "token_ttl": "10m", **role})
    role_id = (await vault.ok("GET", "auth/approle/role/ci/role-id"))["data"]["role_id"]
    secret = (await vault.ok("PUT", "auth/approle/role/ci/secret-id", {}))["data"]["secret_id"]
    return role_id, secret


async def test_an_approle_signs_within_its_policy(world: World):
    vault = await open_vault(world)
    role_id, secret_id = await approle(vault)
    auth = (await vault.ok("PUT", "auth/approle/login", {"role_id": role_id, "secret_id": secret_id}, ""))["auth"]
    assert (auth["policies"], auth["lease_duration"]) == (["default", "ssh-access"], 600)
    assert (await vault.sign(token=auth["client_token"])).status == 200
    grant = (await world.store.read(lambda tx: tx.grants.latest(1)))[0]
    assert (grant.holder.kind, grant.holder.name) == ("robot", "ci@approle")


async def test_a_secret_id_ends(world: World):
    vault = await open_vault(world)
    role_id, secret_id = await approle(vault, secret_id_num_uses=1, secret_id_ttl="5m")
    both = {"role_id": role_id, "secret_id": secret_id}
    assert (await vault.send("PUT", "auth/approle/login", both, "")).status == 200
    assert (await vault.send("PUT", "auth/approle/login", both, "")).status == 400  # used up
    _, secret_id = await approle(vault, secret_id_num_uses=1, secret_id_ttl="5m")
    world.clock.advance(6 * MINUTE)
    assert (await vault.send("PUT", "auth/approle/login", both | {"secret_id": secret_id}, "")).status == 400
    _, secret_id = await approle(vault)
    await vault.ok("PUT", "auth/approle/role/ci/secret-id/destroy", {"secret_id": secret_id})
    assert (await vault.send("PUT", "auth/approle/login", both | {"secret_id": secret_id}, "")).status == 400


async def test_a_secret_id_is_of_one_role(world: World):
    vault = await open_vault(world)
    _, secret_id = await approle(vault)
    await vault.ok("PUT", "auth/approle/role/other", {"token_policies": "all"})
    other = (await vault.ok("GET", "auth/approle/role/other/role-id"))["data"]["role_id"]
    both = {"role_id": other, "secret_id": secret_id}
    assert (await vault.send("PUT", "auth/approle/login", both, "")).status == 400


@pytest.mark.parametrize("kind", ["user", "role", "policy", "mount", "person", "realm"])
async def test_what_is_taken_away_ends_at_once(world: World, kind: str):
    vault = await open_vault(world)
    token = await vault.user()
    assert (await vault.sign(token=token)).status == 200
    await take_away(vault, kind)
    assert (await vault.sign(token=token)).status in (400, 403, 404)


REQUESTS: dict[str, tuple[str, str, object]] = {
    "user": ("DELETE", "auth/userpass/users/testuser", None),
    "role": ("DELETE", "ssh/roles/user-role", None),
    "role changed": ("PUT", "ssh/roles/user-role", {"key_type": "ca", "allow_user_certificates": True}),
    "policy": ("DELETE", "sys/policies/acl/ssh-access", None),
    "policy changed": ("PUT", "sys/policies/acl/ssh-access", {"policy": SIGN_ONLY.replace("create", "deny")}),
    "mount": ("DELETE", "sys/mounts/ssh", None),
    "key": ("DELETE", "ssh/config/ca", None),
    "way in": ("DELETE", "sys/auth/userpass", None),
}


async def take_away(vault: Vault, kind: str) -> None:
    outside = vault.world.outside
    if kind in REQUESTS:
        await vault.ok(*REQUESTS[kind])
    elif kind == "person":
        await disable_person(outside, OPERATOR, "testuser@userpass")
    elif kind == "realm":
        await leave_realm(outside, OPERATOR, "testuser@userpass", "vault-ssh")
    else:
        for accessor in (await vault.ok("LIST", "auth/token/accessors"))["data"]["keys"]:
            found = await vault.ok("PUT", "auth/token/lookup-accessor", {"accessor": accessor})
            if found["data"]["display_name"] == "userpass-testuser":
                await vault.ok("PUT", "auth/token/revoke-accessor", {"accessor": accessor})


async def test_a_narrower_role_in_between_gives_the_narrower_certificate(world: World):
    vault = await open_vault(world)
    token = await vault.user()

    async def narrowed() -> None:
        await vault.ok("PUT", "ssh/roles/user-role", ARTICLE | {"default_extensions": {}, "ttl": "10m"})

    world.signer.hook = narrowed
    answer = await vault.sign(token=token)
    assert answer.status == 200
    body = parse_certificate_line(answer.json["data"]["signed_key"].strip()).body
    assert (body.extensions, body.valid_before) == ((), (world.clock() + 10 * MINUTE) // SECOND)
    assert len(await world.events("certificate.unreleased")) == 1


async def test_what_was_given_up_for_lost_is_never_released(world: World):
    """As of the realms' own certificates: a serial that was recorded as burnt stays burnt."""
    vault = await open_vault(world)
    token = await vault.user()

    async def wait_long() -> None:
        world.clock.advance(2 * MINUTE)
        assert await reconcile(world.outside, settled=MINUTE) == 1

    world.signer.hook = wait_long
    answer = await vault.sign(token=token)
    assert answer.status == 200
    (burnt,) = await world.events("certificate.unreleased")
    assert burnt["serial"] != str(int(answer.json["data"]["serial_number"], 16))
    (out,) = [each for each in await world.events("certificate.issued") if str(each["realm"]).startswith("vault-")]
    assert burnt["serial"] != out["serial"]


@pytest.mark.parametrize(
    "kind",
    ["user", "role", "role changed", "policy", "policy changed", "mount", "key", "token", "way in", "person", "realm"],
)
async def test_what_is_taken_away_while_the_signer_works_is_not_released(world: World, kind: str):
    """No issue that began before commits after it: signed, listed, and burnt."""
    vault = await open_vault(world)
    token = await vault.user()

    async def meanwhile() -> None:
        await take_away(vault, kind)

    world.signer.hook = meanwhile
    answer = await vault.sign(token=token)
    assert answer.status in (400, 403, 404), answer.body
    assert not [each for each in await world.events("certificate.issued") if each["realm"] == "vault-ssh"]
    assert len(await world.events("certificate.unreleased")) == 1


async def test_what_one_person_holds_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("jitgate.flow.vault.sign.RUNNING_MAX", 2)
    vault = await open_vault(world)
    token = await vault.user()
    assert [(await vault.sign(token=token)).status for _ in range(3)] == [200, 200, 429]
    assert (await vault.sign()).status == 200  # somebody else
    world.clock.advance(5 * HOUR)
    assert (await vault.sign(token=await vault.login())).status == 200


async def test_what_others_lose_does_not_hold_it_up(world: World):
    vault = await open_vault(world)
    token = await vault.user()

    async def meanwhile() -> None:
        await disable_person(world.outside, OPERATOR, "alice")

    world.signer.hook = meanwhile
    assert (await vault.sign(token=token)).status == 200


async def test_a_person_who_comes_back_has_to_log_in_anew(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    await disable_person(world.outside, OPERATOR, "testuser@userpass")
    assert (await vault.send("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, "")).status == 400
    await enable_person(world.outside, OPERATOR, "testuser@userpass")
    assert await vault.login()
    assert token


async def test_another_password_ends_what_the_old_one_opened(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    await vault.ok("PUT", "auth/userpass/users/testuser", {"policies": "ssh-access"})
    assert (await vault.sign(token=token)).status == 200
    await vault.ok("PUT", "auth/userpass/users/testuser/password", {"password": "Another-Horse-8"})
    assert (await vault.sign(token=token)).status == 403
    assert (await vault.send("PUT", "auth/userpass/login/testuser", {"password": PASSWORD}, "")).status == 400


async def test_a_mounts_user_is_nobody_elsewhere(world: World):
    """No sign-in, no proof, no role of a policy: a Vault token is a token of the Vault surface."""
    vault = await open_vault(world)
    token = await vault.user()
    stranger = world.stranger()
    stranger.signer.token = token
    assert (await stranger.get("/v1/me")).status == 401
    assert (await stranger.sign_in("testuser@userpass", PASSWORD)).status == 401


async def test_a_name_that_somebody_has_is_given_to_nobody_else(world: World):
    vault = await open_vault(world)
    await add_plain_person(world.outside, OPERATOR, "testuser@userpass", admin=True)
    token = await vault.user()
    assert (await vault.sign(token=token)).status == 200
    grant = (await world.store.read(lambda tx: tx.grants.latest(1)))[0]
    assert grant.holder.name == "testuser@userpass-2"


async def test_two_logins_of_one_mount_are_one_person(world: World):
    vault = await open_vault(world)
    await vault.user()
    await vault.login()

    def names(tx: Tx) -> list[str]:
        return [person.name for person in tx.people.all() if "@userpass" in person.name]

    assert await world.store.read(names) == ["testuser@userpass"]


async def test_policies_that_are_taken_away_are_gone_under_either_name(world: World):
    """`token_policies` and the older `policies` mean one thing: what is written last holds."""
    vault = await open_vault(world)
    await vault.ok("POST", "sys/auth/approle", {"type": "approle"})
    for first, then in (("token_policies", "policies"), ("policies", "token_policies")):
        user, role = "auth/userpass/users/testuser", "auth/approle/role/ci"
        await vault.ok("PUT", user, {"password": PASSWORD, first: "ssh-access"})
        await vault.ok("PUT", role, {first: "ssh-access"})
        for less in ("default", ""):
            await vault.ok("PUT", f"{user}/policies" if then == "policies" else user, {then: less})
            await vault.ok("PUT", role, {then: less})
            token = await vault.login()
            assert (await vault.sign(token=token)).status == 403
            assert "ssh-access" not in (await vault.ok("GET", user))["data"]["token_policies"]
            assert "ssh-access" not in (await vault.ok("GET", role))["data"]["token_policies"]


async def test_times_that_are_taken_back_are_gone_under_either_name(world: World):
    vault = await open_vault(world)
    user = "auth/userpass/users/testuser"
    await vault.ok("PUT", user, {"password": PASSWORD, "ttl": "4h", "max_ttl": "8h"})
    await vault.ok("PUT", user, {"token_ttl": "5m", "token_max_ttl": "10m"})
    await vault.ok("PUT", user, {"ttl": "1m"})
    assert (await vault.ok("GET", user))["data"]["token_ttl"] == 60
    await vault.ok("PUT", user, {"token_ttl": 0, "token_max_ttl": 0})
    found = (await vault.ok("GET", user))["data"]
    assert (found["token_ttl"], found["token_max_ttl"]) == (0, 0)
