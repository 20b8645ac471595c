"""`[directory]`: what would find the wrong person, or speak in the clear, is refused when the settings are read."""

from typing import Any

import pytest

from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.core.errors import BadInput

GIVEN: dict[str, Any] = {"url": "ldaps://ldap.example.com", "person_base": "ou=people", "group_base": "ou=groups"}


@pytest.mark.parametrize(
    ("url", "more", "port", "tls"),
    [
        ("ldaps://ldap.example.com", {}, 636, "tls"),
        ("ldaps://ldap.example.com:1636", {}, 1636, "tls"),
        ("ldap://ldap.example.com", {}, 389, "start"),
        ("ldap://127.0.0.1:3389", {}, 3389, "plain"),
        ("ldap://127.0.0.1:3389", {"ca_file": "/ca.pem"}, 3389, "start"),
        ("ldap://[::1]:3389", {}, 3389, "plain"),
    ],
)
def test_how_it_is_reached(url: str, more: dict[str, str], port: int, tls: str):
    """Plain only where nobody else hears it."""
    found = DirectorySettings(**(GIVEN | {"url": url} | more))
    assert (found.port, "tls" if found.ldaps else "start" if found.start_tls else "plain") == (port, tls)


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "ldap.example.com"},
        {"url": "http://ldap.example.com"},
        {"url": "ldaps://"},
        {"url": "ldaps://reader:secret@ldap.example.com"},
        {"url": "ldaps://ldap.example.com/ou=people"},
        {"url": "ldaps://ldap.example.com:0"},
        {"url": "ldaps://ldap.example.com:x"},
        {"bind_dn": "cn=reader"},
        {"bind_password_file": "/secret"},
        {"person_base": ""},
        {"group_base": ""},
        {"person_filter": "uid={name}"},
        {"person_filter": "(objectClass=person)"},
        {"person_filter": "(uid={user})"},
        {"person_filter": "(uid={name}"},
        {"group_filter": "(cn=ops)"},
        {"disabled_filter": "(uid={name})"},
        {"disabled_filter": "nsAccountLock=true"},
        {"group_attribute": ""},
        {"group_attribute": "cn,mail"},
        {"max_age_s": 0},
        {"max_age_s": 3601},
        {"timeout_s": 0},
        {"timeout_s": 31},
    ],
    ids=str,
)
def test_what_is_refused(wrong: dict[str, Any]):
    with pytest.raises(BadInput):
        DirectorySettings(**(GIVEN | wrong))


def test_without_an_address_there_is_none():
    assert not DirectorySettings().url
