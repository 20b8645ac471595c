"""Where keys lie that are in no file: each name and table that is not taken."""

import pytest
from tests.unit.ca.samples import ORIGIN

from jitgate.ca.places import AgentPlace, Pkcs11Place, SealedPlace, TransitPlace, is_place
from jitgate.ca.rules import default_rules, read_rules
from jitgate.core.errors import BadInput

AGENT = "agent:SHA256:" + "A" * 43
TABLES = """
[sealed]
identity_file = "/etc/age.key"
[pkcs11]
module = "/usr/lib/p11.so"
token = "jitgate"
pin_file = "/etc/pin"
environment = {CONF = "/etc/p11.conf"}
[agent]
socket = "/run/agent"
[transit]
address = "https://vault.example.org:8200"
token_file = "/etc/token"
"""


def rules(keys: str = '"user"', tables: str = TABLES) -> str:
    text = default_rules(ORIGIN, "default", user_key="user", host_key="host", log_key="log")
    return text.replace('"user"', keys) + tables


def test_what_each_table_says():
    found = read_rules(rules(f'"user", "pkcs11:user_ca", "{AGENT}", "transit:user_ca", "transit:user_ca:3"'))
    assert found.places.sealed == SealedPlace("/etc/age.key")
    assert found.places.pkcs11 == Pkcs11Place("/usr/lib/p11.so", "jitgate", "/etc/pin", {"CONF": "/etc/p11.conf"})
    assert found.places.agent == AgentPlace("/run/agent")
    assert found.places.transit == TransitPlace("https://vault.example.org:8200", "/etc/token")
    assert found.elsewhere() == ["pkcs11:user_ca", AGENT, "transit:user_ca", "transit:user_ca:3"]
    assert found.files() == ["user", "host"]
    for name in found.elsewhere():
        ceiling = found.ceiling_of(name)
        assert ceiling is not None
        assert ceiling.realm == "default"
    assert found.ceiling_of("pkcs11:host_ca") is None


@pytest.mark.parametrize(
    "name",
    [
        "pkcs11:",
        "pkcs11:../x",
        "pkcs11:a b",
        "pkcs11:a*",
        "pkcs11:" + "a" * 65,
        "agent:user",
        "agent:SHA256:" + "A" * 42,
        "agent:MD5:" + "A" * 43,
        "transit:a/b",
        "transit:a:0",
        "transit:a:1x",
        "transit:a\\n",
        "file:user",
        "PKCS11:user",
    ],
)
def test_names_that_are_not_taken(name):
    assert not is_place(name)
    with pytest.raises(BadInput):
        read_rules(rules(f'"{name}"'))


@pytest.mark.parametrize("scheme", ["pkcs11", "agent", "transit"])
def test_a_name_without_its_table(scheme):
    name = {"agent": AGENT}.get(scheme, f"{scheme}:user_ca")
    without = TABLES.replace(f"[{scheme}]", "[nothing]")
    with pytest.raises(BadInput):
        read_rules(rules(f'"{name}"', without))
    with pytest.raises(BadInput, match=f"no table .{scheme}"):
        read_rules(rules(f'"{name}"', ""))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"/etc/age.key"', '"age.key"'),
        ('"/etc/age.key"', "3"),
        ('identity_file = "/etc/age.key"', ""),
        ('"/usr/lib/p11.so"', '"p11.so"'),
        ('token = "jitgate"', 'token = ""'),
        ('pin_file = "/etc/pin"', 'pin = "0000"'),
        ("{CONF = ", '{"LD PRELOAD" = '),
        ("{CONF = ", "{conf = "),
        ('{CONF = "/etc/p11.conf"}', "{CONF = 3}"),
        ('{CONF = "/etc/p11.conf"}', '"CONF=/etc"'),
        ('"/run/agent"', '"agent"'),
        ('"/run/agent"', '"/run/agent"\ntimeout_ms = 0'),
        ('"/run/agent"', '"/run/agent"\ntimeout_ms = true'),
        ('"https://vault.example.org:8200"', '"http://vault.example.org:8200"'),
        ('"https://vault.example.org:8200"', '"https://a:b@vault.example.org"'),
        ('"https://vault.example.org:8200"', '"https://vault.example.org/v1"'),
        ('"https://vault.example.org:8200"', '"vault.example.org"'),
        ('"/etc/token"', '"/etc/token"\nmount = "../sys"'),
        ('"/etc/token"', '"/etc/token"\nnamespace = "a/../b"'),
        ('"/etc/token"', '"/etc/token"\nverify = false'),
    ],
)
def test_tables_that_are_not_taken(before, after):
    assert TABLES.count(before) == 1
    with pytest.raises(BadInput, match=r"signer\.toml"):
        read_rules(rules(tables=TABLES.replace(before, after)))


def test_one_key_is_for_one_table():
    with pytest.raises(BadInput, match="twice"):
        read_rules(rules('"pkcs11:ca"').replace('keys = ["host"', 'keys = ["pkcs11:ca"'))


def test_the_logs_key_may_lie_elsewhere_too():
    found = read_rules(rules().replace('key = "log"', 'key = "pkcs11:log"'))
    assert found.log_key == "pkcs11:log"
    assert found.ceiling_of("pkcs11:log") is None
    with pytest.raises(BadInput, match="no table"):
        read_rules(rules(tables="").replace('key = "log"', 'key = "pkcs11:log"'))
