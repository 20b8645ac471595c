"""The trust file: what it says becomes an authority on a server, so nothing that is odd may pass."""

import dataclasses
import json
from collections.abc import Callable
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.agent.trusts import HOST_CA, USER_CA, certify, trust

from jitgate.agent.trust import MAX_BYTES, HostTrust, dump, parse
from jitgate.core.errors import BadInput
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import generate_ed25519

HOST_KEY = generate_ed25519().public
OTHER = generate_ed25519()
GOOD = trust(HOST_KEY, "ubuntu", "deploy", user_ca=(USER_CA.public, OTHER.public))
FIELDS = json.loads(dump(GOOD))

Field = object
Change = Callable[[dict[str, Field]], object]


def test_what_is_written_is_read_back():
    assert parse(dump(GOOD).encode()) == GOOD


def test_holds_the_fields_that_the_host_needs_and_no_other():
    assert list(FIELDS) == [
        "version",
        "realm",
        "host",
        "alias",
        "scopes",
        "logins",
        "user_ca",
        "host_key",
        "host_certificate",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("version", 2),
        ("version", True),
        ("version", "1"),
        ("realm", "Default"),
        ("realm", "other"),
        ("host", "web2"),
        ("host", "localhost"),
        ("host", "web1'\n"),
        ("host", ["web1"]),
        ("alias", "web1"),
        ("alias", "db1.default.jitgate"),
        ("scopes", []),
        ("scopes", "host:web1"),
        ("scopes", ["host:db1"]),
        ("scopes", ["host:web1", "host:db1"]),
        ("scopes", ["host:web1", "env:prod"]),
        ("logins", []),
        ("logins", ["ubuntu", "ubuntu"]),
        ("logins", ["ubuntu", 1]),
        ("logins", ["../../etc/passwd"]),
        ("logins", ["ubuntu deploy"]),
        ("logins", ["$(reboot)"]),
        ("logins", ["a'"]),
        ("logins", [f"user{n}" for n in range(65)]),
        ("user_ca", []),
        ("user_ca", [USER_CA.public.line(), USER_CA.public.line("again")]),
        ("user_ca", ["cert-authority " + USER_CA.public.line()]),
        ("user_ca", [USER_CA.public.line() + "\n" + OTHER.public.line()]),
        ("user_ca", [HOST_KEY.line()]),
        ("user_ca", [HOST_CA.public.line()]),
        ("user_ca", [certify(OTHER, CertType.USER, USER_CA.public, ("ubuntu",)).line()]),
        ("host_key", OTHER.public.line()),
        ("host_key", None),
        ("host_certificate", HOST_KEY.line()),
        ("host_certificate", certify(HOST_CA, CertType.USER, HOST_KEY, ("web1",)).line()),
        ("host_certificate", certify(HOST_CA, CertType.HOST, OTHER.public, ("web1",)).line()),
        ("host_certificate", certify(HOST_CA, CertType.HOST, HOST_KEY, ("web1", "db1")).line()),
        ("host_certificate", certify(USER_CA, CertType.HOST, HOST_KEY, ("web1",)).line()),
    ],
    ids=map(str, count()),  # keys differ from run to run
)
def test_a_value_that_does_not_belong_refuses_the_file(field: str, value: Field):
    with pytest.raises(BadInput):
        parse(json.dumps(FIELDS | {field: value}).encode())


@pytest.mark.parametrize("field", FIELDS)
def test_a_missing_field_refuses_the_file(field: str):
    with pytest.raises(BadInput):
        parse(json.dumps({name: value for name, value in FIELDS.items() if name != field}).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\xff",
        b"[" * 60_000,
        json.dumps(FIELDS | {"more": 1}).encode(),
        dump(GOOD).replace('"realm"', '"realm": "default", "realm"').encode(),
        dump(GOOD).encode() + b" " * MAX_BYTES,
    ],
    ids=["empty", "null", "list", "not ascii", "deep", "unknown field", "field twice", "long"],
)
def test_what_is_no_trust_file_is_refused(data: bytes):
    with pytest.raises(BadInput):
        parse(data)


@given(st.sampled_from(sorted(FIELDS)), st.recursive(st.none() | st.integers() | st.text(), st.lists))
def test_any_other_value_is_refused_or_changes_nothing_but_the_logins(field: str, value: Field):
    try:
        found = parse(json.dumps(FIELDS | {field: value}).encode())
    except BadInput:
        return
    assert dataclasses.replace(found, logins=GOOD.logins) == GOOD


def test_the_constructor_refuses_as_the_file_does():
    with pytest.raises(BadInput):
        HostTrust(**{f.name: getattr(GOOD, f.name) for f in dataclasses.fields(GOOD)} | {"scopes": ("host:db1",)})
