"""What the Vault surface lets in, asked by those who should not be: every path, every odd spelling, every token."""

import re
from functools import partial
from typing import Any

import pytest
from tests.vault_world import ARTICLE, LINE, PASSWORD, Vault, open_vault
from tests.world import OPERATOR, World, sql

from jitgate.api.vault.routes import ROUTES
from jitgate.core.clock import HOUR, MINUTE, SECOND
from jitgate.flow.hosts import add_host
from jitgate.flow.people import disable_person
from jitgate.flow.ports import Tx
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.private import generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line

MAKERS = 'path "auth/token/create" { capabilities = ["update"] }'
SETTING = "vault.plain_logins_unregistered_keys"
METHODS = {"read": "GET", "list": "LIST", "write": "PUT", "delete": "DELETE"}
PLACES = {"": "", "ssh": "ssh/", "userpass": "auth/userpass/", "approle": "auth/approle/", "jwt": "auth/jwt/"}
OPEN = {
    ("read", "sys/health"),
    ("read", "sys/seal-status"),
    ("read", "sys/leader"),
    ("read", "ssh/public_key"),
    ("write", "auth/userpass/login/NAME"),
    ("write", "auth/approle/login"),
    ("write", "auth/jwt/login"),
}


def paths() -> list[tuple[str, str, str]]:
    """Operation, path with NAME in it, and how the route says that it is let in."""
    found: list[tuple[str, str, str]] = []
    for route in ROUTES:
        pattern = re.sub(r"\(\?P<name>[^)]*\)", "NAME", route.pattern.pattern).replace("\\", "")
        found.append((route.operation, PLACES[route.under] + pattern, route.access))
    return found


async def issued(world: World) -> list[dict[str, Any]]:
    """Entries of certificates that mounts signed."""
    return [each for each in await world.events("certificate.issued") if str(each["realm"]).startswith("vault-")]


async def everything(world: World) -> Vault:
    vault = await open_vault(world)
    for kind in ("approle", "jwt"):
        await vault.ok("POST", f"sys/auth/{kind}", {"type": kind})
    return vault


async def test_a_stranger_gets_nothing_anywhere(world: World):
    """Every route of the table: without a token, with one that is none, and with one of jitgate's own."""
    vault = await everything(world)
    own = (await world.enter("olga")).signer.token
    assert {(operation, path) for operation, path, access in paths() if access == "anyone"} == OPEN
    for operation, path, access in paths():
        if access == "anyone":
            continue
        for token in ("", "root", "jgv_" + "A" * 43, own):
            status, words = await vault.refused(METHODS[operation], path.replace("NAME", "x"), {}, token)
            assert (status, "permission denied" in words) == (403, True), (operation, path, token)


async def test_a_token_without_policies_gets_nothing_but_itself(world: World):
    vault = await everything(world)
    token = await vault.user("nobody", "")
    for operation, path, access in paths():
        if access != "policy" or path in ("auth/token/lookup-self", "auth/token/renew-self"):
            continue
        status, words = await vault.refused(METHODS[operation], path.replace("NAME", "x"), {"x": 1}, token)
        assert status == 403, (operation, path, words)


async def test_a_user_does_what_the_policy_says_and_nothing_else(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    assert (await vault.sign(token=token)).status == 200
    for method, path in (
        ("GET", "ssh/roles/user-role"),
        ("PUT", "ssh/roles/user-role"),
        ("PUT", "ssh/sign/other"),
        ("PUT", "ssh/issue/user-role"),
        ("PUT", "sys/policies/acl/ssh-access"),
        ("PUT", "auth/userpass/users/testuser"),
        ("PUT", "auth/userpass/users/testuser/policies"),
        ("DELETE", "sys/mounts/ssh"),
        ("PUT", "auth/token/create"),
        ("GET", "sys/mounts"),
    ):
        assert (await vault.refused(method, path, {}, token))[0] == 403, path


async def test_a_key_that_is_listed_as_compromised_is_not_signed(world: World):
    vault = await open_vault(world)
    world.change(refused_keys=frozenset({parse_public_key_line(LINE)[0].fingerprint}))
    status, words = await vault.refused("PUT", "ssh/sign/user-role", {"public_key": LINE})
    assert (status, "compromised" in words) == (400, True)
    assert not await issued(world)


@pytest.mark.parametrize(
    "path",
    [
        "ssh/sign/../roles/user-role",
        "ssh/./sign/user-role",
        "ssh//sign/user-role",
        "ssh/sign%2Fuser-role",
        "ssh/sign/user-role%00",
        "ssh/sign/%75ser-role",
        "/ssh/sign/user-role",
        "ssh/sign/user-role//",
        "ssh/sign/user-role;x",
        "sys/../ssh/sign/user-role",
        "auth/../sys/mounts",
        "auth/token/../userpass/users/x",
        "ssh/sign/..",
        "ssh\\sign\\user-role",
        "",
    ],
)
async def test_a_path_has_one_spelling(world: World, path: str):
    """CVE-2026-3605: `.` and `..` that a policy does not see and a router does."""
    vault = await open_vault(world)
    answer = await vault.send("PUT", path, {"public_key": LINE}, "")  # before anybody is asked who they are
    assert answer.status == 404
    assert answer.json["errors"][0].startswith("no handler for this path")
    assert (await vault.send("PUT", path, {"public_key": LINE})).status == 404
    assert not await issued(world)


async def test_methods_namespaces_and_wrapping_that_are_not_there(world: World):
    vault = await open_vault(world)
    assert (await vault.send("PATCH", "ssh/roles/user-role", {})).status == 405
    assert (await vault.send("GET", "ssh/sign/user-role")).status == 405
    for header in ("X-Vault-Namespace", "X-Vault-Wrap-TTL", "X-Vault-MFA"):
        assert (await vault.send("GET", "ssh/roles/user-role", headers={header: "1"})).status == 400
    for body in (b"[]", b'{"a": 1, "a": 2}', b"{", b'"x"', b"\xff", b"[" * 9000):
        assert (await vault.send("PUT", "ssh/roles/user-role", body)).status == 400
    assert (await vault.send("PUT", "ssh/roles/user-role", b" " * 70_000)).status == 413


async def test_off_is_nothing_at_all(world: World):
    vault = Vault(world)
    for path in ("sys/health", "sys/seal-status", "ssh/public_key"):
        assert (await vault.send("GET", path)).status == 404


async def test_a_role_is_written_with_a_warning_and_a_certificate_says_what_the_role_says(world: World):
    vault = await open_vault(world)
    answer = await vault.ok("PUT", "ssh/roles/user-role", ARTICLE)
    assert any("allowed_users is *" in each for each in answer["warnings"])
    line = (await vault.sign()).json["data"]["signed_key"]
    body = parse_certificate_line(line.strip()).body
    now = world.clock() // SECOND
    assert (body.principals, body.extensions, body.valid_before) == (("ubuntu",), (("permit-pty", ""),), now + 14400)
    assert body.valid_after == now - 30
    assert body.serial == int(
        (await vault.ok("GET", "sys/internal/counters/activity"))["data"]["recent_certificates"][0]["serial"]
    )


async def test_each_signature_is_a_grant_of_its_own_that_ends_with_it(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    for _ in range(2):
        assert (await vault.sign(token=token)).status == 200
    grants = await world.store.read(lambda tx: tx.grants.latest(10))
    mine = [grant for grant in grants if grant.realm == "vault-ssh"]
    assert len({grant.id for grant in mine}) == 2
    for grant in mine:
        assert (grant.role, grant.holder.name) == ("user-role", "testuser@userpass")
        ((_, ends),) = await world.store.read(partial(certificates_of, grant.id, world.clock()))
        assert ends == grant.ends_at
    for kind in ("grant.opened", "certificate.issued"):
        events = [each for each in await world.events(kind) if each["realm"] == "vault-ssh"]
        assert [each["detail"]["setting"] for each in events] == [SETTING, SETTING]
        assert {each["actor"]["name"] for each in events} == {"testuser@userpass"}


def certificates_of(grant: str, now: int, tx: Tx) -> list[tuple[int, int]]:
    return tx.certificates.of_grant(grant, now)


async def test_a_grant_of_a_mount_opens_nothing_by_jitgates_own_way(world: World):
    """Not even for the admin whose token opened it."""
    vault = await open_vault(world)
    assert (await vault.sign()).status == 200
    (grant,) = [each for each in await world.store.read(lambda tx: tx.grants.latest(10)) if each.realm == "vault-ssh"]
    olga = await world.enter("olga")
    for host in ("*", "web1", ""):
        assert (await olga.certificate(host, grant.id)).status in (400, 403, 404, 409)
    assert len(await issued(world)) == 1


async def test_nobody_is_told_to_trust_a_mounts_key(world: World):
    """Not by what everybody may read, nor by what a new host is given: its owner does that, or nobody."""
    vault = await open_vault(world)
    key = (await vault.ok("GET", "ssh/config/ca"))["data"]["public_key"].split()[1]
    told = await world.stranger().get("/.well-known/jitgate")
    assert told.status == 200
    assert key not in told.body.decode()
    assert "vault-ssh" not in told.body.decode()
    line = generate_ed25519().public.line()
    added = await add_host(
        world.outside, OPERATOR, name="web9", address="web9", port=22, logins=["ubuntu"], labels={}, host_key_line=line
    )
    assert added.user_authorities
    assert not [each for each in added.user_authorities if each.line().split()[1] == key]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"valid_principals": "ubuntu@host:web1"}, "not a login name"),
        ({"valid_principals": "*"}, "not a login name"),
        ({"ttl": "5h"}, "larger than maximum"),
        ({"critical_options": {"force-command": "x"}}, "not on allowed list"),
        ({"key_id": "root"}, "key_id"),
        ({"cert_type": "host"}, "host"),
        ({"public_key": "x"}, ""),
        ({"public_kez": "x"}, "unknown field"),
    ],
)
async def test_a_no_is_said_and_recorded(world: World, asked: dict[str, Any], words: str):
    vault = await open_vault(world)
    token = await vault.user()
    answer = await vault.sign(token=token, **asked)
    assert answer.status == 400
    assert words in answer.json["errors"][0]
    (event,) = await world.events("certificate.refused")
    assert (event["detail"]["setting"], event["actor"]["name"]) == (SETTING, "testuser@userpass")
    assert not await issued(world)


async def test_no_principal_none_asked_and_no_default(world: World):
    vault = await open_vault(world)
    await vault.ok("PUT", "ssh/roles/emergency", {**ARTICLE, "default_user": "", "ttl": "24h"})
    nothing: list[dict[str, Any]] = [
        {},
        {"valid_principals": ""},
        {"valid_principals": " , "},
        {"valid_principals": []},
    ]
    for asked in nothing:
        answer = await vault.sign("emergency", **asked)
        assert answer.status == 400
        assert "empty valid principals" in answer.json["errors"][0]
    assert not await issued(world)
    assert (await vault.sign("emergency", valid_principals="root")).status == 200


async def test_the_signer_holds_what_the_service_forgets(world: World, monkeypatch: pytest.MonkeyPatch):
    """A broken service that takes scoped principals for plain ones meets the signer's own rules."""
    vault = await open_vault(world)
    monkeypatch.setattr("jitgate.flow.vault.sign.shape_plain", _scoped)
    answer = await vault.sign()
    assert answer.status == 400
    assert "no plain login" in answer.json["errors"][0]


def _scoped(grant, key, ca, now, *, backdate_s):  # as the function it stands for
    from dataclasses import replace  # noqa: PLC0415

    from jitgate.ca.plain import shape_plain  # noqa: PLC0415

    return replace(shape_plain(grant, key, ca, now, backdate_s=backdate_s), principals=("ubuntu@host:web1",))


async def test_tokens_end(world: World):
    """By their time, by themselves, with their parent, with their mount, with their person's account."""
    vault = await open_vault(world)
    token = await vault.user(policies="ssh-access,makers")
    await vault.ok(
        "PUT", "sys/policies/acl/makers", {"policy": 'path "auth/token/create" { capabilities = ["update"] }'}
    )
    child = (await vault.ok("PUT", "auth/token/create", {"policies": ["ssh-access"]}, token))["auth"]["client_token"]
    assert (await vault.sign(token=child)).status == 200
    await vault.ok("PUT", "auth/token/revoke-self", {}, token)
    for ended in (token, child):
        assert (await vault.sign(token=ended)).status == 403
    token = await vault.login()
    world.clock.advance(61 * MINUTE)
    assert (await vault.sign(token=token)).status == 403
    token = await vault.login()
    accessor = (await vault.ok("GET", "auth/token/lookup-self", None, token))["data"]["accessor"]
    await vault.ok("PUT", "auth/token/revoke-accessor", {"accessor": accessor})
    assert (await vault.sign(token=token)).status == 403
    token = await vault.login()
    await vault.ok("DELETE", "sys/auth/userpass")
    assert (await vault.sign(token=token)).status == 403


async def test_a_renewal_has_an_end(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    for _ in range(9):
        world.clock.advance(59 * MINUTE)
        answer = await vault.send("PUT", "auth/token/renew-self", {}, token)
        if answer.status != 200:
            break
    assert answer.status == 403
    assert world.clock() >= 8 * HOUR


async def test_an_admins_token_ends_with_being_an_admin(world: World):
    vault = await open_vault(world)
    assert (await vault.sign()).status == 200
    await world.store.write(lambda tx: sql(tx, "UPDATE person SET admin = false WHERE name = 'olga'"))
    assert (await vault.sign()).status == 403


async def test_an_admins_token_ends_with_their_account(world: World):
    vault = await open_vault(world)
    await disable_person(world.outside, OPERATOR, "olga")
    assert (await vault.sign()).status == 403


async def test_a_token_with_a_number_of_uses_has_that_many(world: World):
    vault = await open_vault(world)
    made = await vault.ok("PUT", "auth/token/create", {"policies": ["ssh-access"], "num_uses": 2})
    token = made["auth"]["client_token"]
    assert [(await vault.sign(token=token)).status for _ in range(4)] == [200, 200, 403, 403]
    assert len(await issued(world)) == 2


async def test_a_token_with_a_number_of_uses_makes_no_other(world: World):
    """As Vault: a child without a number would make it any number."""
    vault = await open_vault(world)
    await vault.ok(
        "PUT", "sys/policies/acl/makers", {"policy": 'path "auth/token/create" { capabilities = ["update"] }'}
    )
    made = await vault.ok("PUT", "auth/token/create", {"policies": ["ssh-access", "makers"], "num_uses": 2})
    token = made["auth"]["client_token"]
    for more in ({}, {"num_uses": 1}):
        status, words = await vault.refused("PUT", "auth/token/create", more, token)
        assert (status, "number of uses" in words) == (400, True)


async def test_a_refusal_is_one_entry(world: World):
    vault = await open_vault(world)
    token = await vault.user()
    assert (await vault.sign(token=token, ttl="9h")).status == 400
    assert (await vault.sign("other", token=token)).status == 403
    assert len(await world.events("certificate.refused")) == 1
    (event,) = await world.events("vault.refused")
    assert (event["detail"]["code"], event["detail"]["path"]) == ("vault_policy", "ssh/sign/other")


async def test_root_is_given_to_nobody(world: World):
    """CVE-2025-5999, and the plain way."""
    vault = await open_vault(world)
    for name in ("root", "Root", " root", "root ", "ROOT"):
        for path, field in (
            ("auth/userpass/users/x", "policies"),
            ("auth/userpass/users/x", "token_policies"),
            ("auth/token/create", "policies"),
        ):
            body = {field: [name], "password": PASSWORD} if "users" in path else {field: [name]}
            if name.strip(" ") == "root" or name != name.lower():
                assert (await vault.refused("PUT", path, body))[0] == 400, (path, name)
        assert (await vault.refused("PUT", f"sys/policies/acl/{name.strip()}", {"policy": 'path "*" {}'}))[0] == 400
    assert (await vault.refused("DELETE", "sys/policies/acl/root"))[0] == 400


async def test_a_child_has_no_more_than_its_parent(world: World):
    vault = await open_vault(world)
    await vault.ok(
        "PUT", "sys/policies/acl/makers", {"policy": 'path "auth/token/create" { capabilities = ["update"] }'}
    )
    await vault.ok("PUT", "sys/policies/acl/all", {"policy": 'path "*" { capabilities = ["update", "sudo"] }'})
    token = await vault.user(policies="ssh-access,makers")
    assert "subset of parent" in (await vault.refused("PUT", "auth/token/create", {"policies": ["all"]}, token))[1]
    made = await vault.ok("PUT", "auth/token/create", {"ttl": "1000h"}, token)
    assert made["auth"]["lease_duration"] <= 3600
    made = await vault.ok("PUT", "auth/token/create", {"policies": ["ssh-access"], "ttl": "1000h"})
    own = (await vault.ok("GET", "auth/token/lookup-self"))["data"]["ttl"]
    assert made["auth"]["lease_duration"] <= own
    for field in ("no_parent", "period", "id"):
        assert (await vault.refused("PUT", "auth/token/create", {field: "1h"}, token))[0] == 400
