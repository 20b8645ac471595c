"""The signer's own file is read strictly: a slip in it must not be a missing limit."""

import re

import pytest
from tests.unit.ca.samples import ORIGIN

from jitgate.ca.rules import HostCeiling, UserCeiling, default_rules, read_rules
from jitgate.core.errors import BadInput

TEXT = default_rules(ORIGIN, "default", user_key="user-1", host_key="host-1", log_key="log")


def test_the_file_of_a_new_installation():
    rules = read_rules(TEXT)
    user, host = rules.ceilings
    assert isinstance(user, UserCeiling)
    assert isinstance(host, HostCeiling)
    assert (user.keys, host.keys, rules.log_key, rules.origin) == (("user-1",), ("host-1",), "log", ORIGIN)
    assert user.scopes == {"host"}
    assert host.pattern == "*.default.jitgate"


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
        ("max_principals = 32", "max_principals = 257"),
        ("max_principals = 32", "max_principals = 32\nmax_principal = 1"),
        ('scopes = ["host"]', 'scopes = ["*"]'),
        ('logins = ["*"]', 'logins = "*"'),
        ("denied_logins = []", 'denied_logins = ["*"]'),
        ('pattern = "*.default.jitgate"', 'pattern = "*"'),
        ('pattern = "*.default.jitgate"', 'pattern = "*.jitgate"'),
        ('pattern = "*.default.jitgate"', 'pattern = "*.*.jitgate"'),
        ('keys = ["user-1"]', "keys = []"),
        ('keys = ["user-1"]', 'keys = ["../user-1"]'),
        ('keys = ["user-1"]', 'keys = [".hidden"]'),
        ('keys = ["user-1"]', 'keys = ["host-1"]'),
        ('keys = ["user-1"]', 'keys = ["log"]'),
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


def test_a_realm_has_one_table_of_a_kind():
    twice = TEXT + TEXT[TEXT.index("[[user]]") : TEXT.index("[[host]]")].replace("user-1", "user-2")
    with pytest.raises(BadInput, match="two tables"):
        read_rules(twice)
