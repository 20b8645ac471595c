"""Hosts as an owner makes them known: nothing in one that ssh, a shell or a file of sshd's could read otherwise."""

from typing import Any

import pytest
from tests.unit.ca.samples import ID, NOW, public

from jitgate.ca.names import host_alias, host_pattern
from jitgate.core.errors import BadInput
from jitgate.hosts.model import LABELS_MAX, LOGINS_MAX, Host, check_address


def host(**other: Any) -> Host:
    told: dict[str, Any] = {
        "id": ID,
        "realm": "default",
        "name": "web1",
        "address": "10.0.0.11",
        "port": 22,
        "labels": {"tier": "web"},
        "logins": ("ubuntu",),
        "key": public("sshd"),
        "added_at": NOW,
    }
    return Host(**told | other)


def test_a_host_is_called_by_its_alias_under_its_realms_own_pattern():
    assert host().alias == host_alias("default", "web1") == "web1.default.jitgate"
    assert host(realm="eu").alias == "web1.eu.jitgate"
    assert host_pattern("eu") == "*.eu.jitgate"
    assert host().reach == "dial"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("realm", "Default"),
        ("realm", "a.b"),
        ("name", "localhost"),
        ("name", "web1 web2"),
        ("name", ""),
        ("address", ""),
        ("address", "-oProxyCommand=x"),
        ("port", 0),
        ("port", 65536),
        ("logins", ()),
        ("logins", ("ubuntu", "ubuntu")),
        ("logins", ("ubuntu", "-l")),
        ("logins", ("root,ubuntu",)),
        ("logins", tuple(f"u{n}" for n in range(LOGINS_MAX + 1))),
        ("labels", {"Tier": "web"}),
        ("labels", {"tier": "web db"}),
        ("labels", {f"k{n}": "v" for n in range(LABELS_MAX + 1)}),
    ],
)
def test_what_is_no_host_is_refused(field: str, value: object):
    with pytest.raises(BadInput):
        host(**{field: value})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("port", 1),
        ("port", 65535),
        ("logins", tuple(f"u{n}" for n in range(LOGINS_MAX))),
        ("labels", {}),
        ("labels", {f"k{n}": "v" for n in range(LABELS_MAX)}),
    ],
)
def test_a_limit_itself_is_taken(field: str, value: object):
    assert getattr(host(**{field: value}), field) == value


def test_labels_cannot_be_changed_behind_the_policys_back():
    given = {"tier": "web"}
    known = host(labels=given)
    given["tier"] = "db"
    assert known.labels == {"tier": "web"}
    with pytest.raises(TypeError):
        known.labels["tier"] = "db"  # type: ignore[index]  # what must not work


@pytest.mark.parametrize(
    "address", ["10.0.0.11", "2001:db8::7", "web1", "web1.example.org", "a-b.c", "x" * 63 + ".org", "1.example"]
)
def test_an_address_is_taken_as_it_is(address: str):
    assert check_address(address) == address


@pytest.mark.parametrize(
    "address",
    [
        "",
        "-web1",
        "web1-",
        "web1.",
        ".web1",
        "web..1",
        "Web1",
        "web_1",
        "web1 web2",
        "web1\n",
        "web1;id",
        "$(id)",
        "%h",
        "user@web1",
        "[::1]",
        "::1%eth0",
        "fe80::1%$(id)",
        "web1:22",
        "http://web1",
        "x" * 64 + ".org",
        ".".join(["x" * 50] * 6),
        "é.org",
    ],
)
def test_what_ssh_or_a_shell_could_read_otherwise_is_no_address(address: str):
    with pytest.raises(BadInput, match="not an address"):
        check_address(address)
