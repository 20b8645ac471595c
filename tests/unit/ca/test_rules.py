"""The signer's own file is read strictly: a slip in it must not be a missing limit."""

import re

import pytest
from tests.unit.ca.samples import ORIGIN

from jitgate.ca.rules import HostCeiling, UserCeiling, default_rules, read_rules
from jitgate.core.errors import BadInput

TEXT = default_rules(ORIGIN, "default", user_key="user-1", host_key="host-1", log_key="log")


KEYS = 'keys = ["user-1", "user-1-*"]'


def test_the_file_of_a_new_installation():
    rules = read_rules(TEXT)
    user, host = rules.ceilings
    assert isinstance(user, UserCeiling)
    assert isinstance(host, HostCeiling)
    assert (user.keys, host.keys, rules.log_key, rules.origin) == (
        ("user-1", "user-1-*"),
        ("host-1", "host-1-*"),
        "log",
        ORIGIN,
    )
    assert user.scopes == {"host"}
    assert host.pattern == "*.default.jitgate"


def test_what_the_owner_lowers_is_what_holds():
    lowered = {
        'logins = ["*"]': 'logins = ["ubuntu", "deploy"]',
        "denied_logins = []": 'denied_logins = ["root"]',
        "max_lifetime_s = 86400": "max_lifetime_s = 1",
        "max_principals = 32": "max_principals = 256",
        "burst = 20000": "burst = 6000000",
        "rate_per_minute = 3000": "rate_per_minute = 1",
        'critical_options = ["force-command", "source-address", "verify-required"]': "critical_options = []",
    }
    text = TEXT
    for old, new in lowered.items():
        assert old in text
        text = text.replace(old, new, 1)
    user, host = read_rules(text).ceilings
    assert isinstance(user, UserCeiling)
    assert user.logins == {"ubuntu", "deploy"}
    assert user.denied_logins == {"root"}
    assert (user.max_lifetime_s, user.max_principals, user.burst, user.rate_per_minute) == (1, 256, 6_000_000, 1)
    assert user.critical_options == frozenset()
    assert host == read_rules(TEXT).ceilings[1]


def test_a_new_installation_begins_with_the_longest_that_a_role_and_a_host_may_ask_for():
    user, host = read_rules(default_rules(ORIGIN, "eu", user_key="u", host_key="h", log_key="l")).ceilings
    assert (user.max_lifetime_s, host.max_lifetime_s) == (24 * 3600, 90 * 24 * 3600)
    assert (user.realm, user.keys, host.realm, host.keys) == ("eu", ("u", "u-*"), "eu", ("h", "h-*"))


@pytest.mark.parametrize("line", [line for line in TEXT.splitlines() if re.match(r"[a-z_]+ = .*[^\[]$", line)])
def test_no_line_may_be_missing(line: str):
    with pytest.raises(BadInput, match="is missing"):
        read_rules(TEXT.replace(line + "\n", "", 1))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_lifetime_s = 86400", "max_lifetime_s = 0"),
        ("max_lifetime_s = 86400", "max_lifetime_s = true"),
        ("max_lifetime_s = 86400", 'max_lifetime_s = "86400"'),
        ("max_lifetime_s = 86400", "max_lifetime_s = 99999999999"),
        ("max_lifetime_s = 86400", "max_lifetime_s = 34560001"),
        ("max_principals = 32", "max_principals = 257"),
        ("rate_per_minute = 3000", "rate_per_minute = 6000001"),
        ("rate_per_minute = 3000", "rate_per_minute = -1"),
        ('logins = ["*"]', 'logins = ["**"]'),
        ('logins = ["*"]', "logins = [7]"),
        ("max_principals = 32", "max_principals = 32\nmax_principal = 1"),
        ('scopes = ["host"]', 'scopes = ["*"]'),
        ('logins = ["*"]', 'logins = "*"'),
        ("denied_logins = []", 'denied_logins = ["*"]'),
        ('pattern = "*.default.jitgate"', 'pattern = "*"'),
        ('pattern = "*.default.jitgate"', 'pattern = "*.jitgate"'),
        ('pattern = "*.default.jitgate"', 'pattern = "*.*.jitgate"'),
        (KEYS, "keys = []"),
        (KEYS, 'keys = ["../user-1"]'),
        (KEYS, 'keys = [".hidden"]'),
        (KEYS, 'keys = ["host-1"]'),
        (KEYS, 'keys = ["log"]'),
        (KEYS, 'keys = ["*"]'),
        (KEYS, 'keys = ["user*1"]'),
        (KEYS, 'keys = ["user-1", "host-*"]'),
        (KEYS, 'keys = ["user-1", "host-1-2*"]'),
        ('"ssh-rsa"', '"ssh-dss"'),
        ("[[user]]", "[user]"),
        ("[log]", "[[log]]"),
        ('origin = "jitgate.example.com/log"', 'origin = "a\\nb"'),
        ('realm = "default"', 'realm = "*"'),
        ("[log]", "[other]\n[log]"),
        ("[log]", "[log"),
    ],
)
def test_what_is_not_a_limit_is_refused(old: str, new: str):
    assert old in TEXT
    with pytest.raises(BadInput):
        read_rules(TEXT.replace(old, new, 1))


@pytest.mark.parametrize("file", ["user-1", "user-1-2027", "user-1-"])
def test_files_that_are_user_keys(file: str):
    assert isinstance(read_rules(TEXT).ceiling_of(file), UserCeiling)


@pytest.mark.parametrize(
    "file", ["log", "user", "user-2", "user-1-2027.pub", "user-1-2.tmp", "user-1-2~", "..data", "user-1-/../x", ""]
)
def test_files_that_are_no_keys(file: str):
    assert read_rules(TEXT).ceiling_of(file) is None


def test_a_file_that_is_named_whole_is_of_that_table():
    rules = read_rules(TEXT.replace(KEYS, 'keys = ["user-1", "k*"]').replace('["host-1", ', '["k-host", "host-1", '))
    assert isinstance(rules.ceiling_of("k-host"), HostCeiling)
    assert isinstance(rules.ceiling_of("k-other"), UserCeiling)


def test_a_realm_has_one_table_of_a_kind():
    twice = TEXT + TEXT[TEXT.index("[[user]]") : TEXT.index("[[host]]")].replace("user-1", "user-2")
    with pytest.raises(BadInput, match="two tables"):
        read_rules(twice)
