"""docs/vault.md lists every path and every field that is known by name, and says of each whether it is as in Vault."""

import re
from collections.abc import Collection
from pathlib import Path

import pytest

from jitgate.api.vault.routes import ROUTES
from jitgate.ca.mounts import MOUNT_TABLE
from jitgate.flow.vault import approle, jwt, tokens, userpass
from jitgate.flow.vault.settings import VaultSettings
from jitgate.policy.vault_role import FIELDS
from jitgate.policy.vault_sign import ASKED

pytestmark = pytest.mark.drift

TEXT = (Path(__file__).parents[3] / "docs" / "vault.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL))
PLACES = {"": "", "ssh": "MOUNT/", "userpass": "auth/MOUNT/", "approle": "auth/MOUNT/", "jwt": "auth/MOUNT/"}


def rows(section: str) -> dict[str, str]:
    """What each row's first cell names, and what is said of it."""
    return dict(re.findall(r"^\| `([^`]+)` \| (same|stricter|not there)", SECTIONS[section], re.MULTILINE))


@pytest.mark.parametrize(
    ("section", "fields"),
    [
        ("Roles", FIELDS),
        ("Signing", ASKED),
        ("Users", userpass.USER),
        ("AppRole", approle.ROLE),
        ("JWT", jwt.ROLE | jwt.CONFIG),
        ("Tokens", tokens.CREATE),
    ],
)
def test_every_field_is_told_and_no_other(section: str, fields: Collection[str]):
    assert set(rows(section)) == set(fields)


def test_every_path_is_told_with_its_operations():
    told = {
        (path, operation)
        for path, operations in re.findall(r"^\| `([^`]+)` \| ([a-z, ]+) \|", SECTIONS["Paths"], re.MULTILINE)
        for operation in operations.split(", ")
    }
    found = set()
    for route in ROUTES:
        pattern = re.sub(r"\(\?P<name>[^)]*\)", "NAME", route.pattern.pattern).replace("\\", "")
        if re.fullmatch(r"sys/(mounts|auth|audit)/NAME", pattern):
            pattern = pattern.replace("NAME", "PATH")
        found.add((PLACES[route.under] + pattern, route.operation))
    lists = {(path, "list") for path, operation in found if operation == "read"}  # Vault's clients ask either way
    assert told - found == set()
    assert found - told - lists == set()


def test_settings_and_limits_are_told():
    names = set(VaultSettings.__dataclass_fields__)
    assert names <= set(re.findall(r"^\| `([a-z_]+)` \|", SECTIONS["Switching it on"], re.MULTILINE))
    for name in re.findall(r"^([a-z_]+) =", MOUNT_TABLE, re.MULTILINE):
        assert f"`{name}`" in TEXT or f"{name} =" in TEXT, name
