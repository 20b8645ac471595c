"""The join token."""

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.ca.samples import public
from tests.unit.hosts.test_bundle import HOST_ID, ID

from jitgate.core.errors import BadInput
from jitgate.core.secret import Secret
from jitgate.hosts.joining import JoinToken, join_bytes, new_secret, read_token, secret_hash, write_token

TOKEN = JoinToken(
    url="https://jitgate.example.com:8443",
    installation=ID,
    realm="default",
    name="web1",
    root=public("root").fingerprint,
    tls_pin="sha256=" + "ab" * 32,
    secret=new_secret(lambda count: b"\x07" * count),
)


def test_a_token_is_read_as_it_was_written():
    text = write_token(TOKEN).reveal()
    assert text.startswith("jgj_")
    assert read_token(text) == TOKEN
    assert TOKEN.secret.reveal() not in repr(TOKEN)


@pytest.mark.parametrize(
    "change",
    [
        {"url": "http://jitgate.example.com"},
        {"url": "https://a b"},
        {"realm": "Default"},
        {"name": "localhost"},
        {"name": "../web1"},
        {"root": "SHA256:short"},
        {"tls_pin": "sha256=AB"},
        {"installation": "x"},
        {"secret": Secret("short")},
    ],
)
def test_a_token_with_a_wrong_field_is_none(change):
    with pytest.raises(BadInput):
        dataclasses.replace(TOKEN, **change)


@settings(max_examples=200)
@given(text=st.text(max_size=60) | st.binary(max_size=60).map(lambda data: data.decode("latin-1")))
def test_other_text_is_refused_and_not_repeated(text):
    for unverified in (text, "jgj_" + text, write_token(TOKEN).reveal() + text[:1] + "~"):
        with pytest.raises(BadInput) as caught:
            read_token(unverified)
        assert caught.value.what == "this is no join token"


def test_what_the_host_key_signs_is_for_one_name_and_one_token():
    one = join_bytes(ID, "default", "web1", secret_hash(TOKEN.secret), 5)
    others = [
        join_bytes(HOST_ID, "default", "web1", secret_hash(TOKEN.secret), 5),
        join_bytes(ID, "other", "web1", secret_hash(TOKEN.secret), 5),
        join_bytes(ID, "default", "web2", secret_hash(TOKEN.secret), 5),
        join_bytes(ID, "default", "web1", bytes(32), 5),
        join_bytes(ID, "default", "web1", secret_hash(TOKEN.secret), 6),
    ]
    assert one not in others
