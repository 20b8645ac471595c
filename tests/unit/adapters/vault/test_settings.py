"""`[keys]` of jitgate.toml: what is refused before anything is sent anywhere."""

import pytest

from jitgate.adapters.vault.settings import KeysSettings
from jitgate.core.errors import BadInput

GOOD = {
    "store": "vault",
    "url": "https://vault.example.org:8200",
    "role_id": "r",
    "secret_id_file": "/run/secret_id",
}


def test_the_rows_alone_need_nothing():
    assert KeysSettings().store == "database"


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"url": "http://127.0.0.1:8200"},
        {"role_id": "", "role_id_file": "/run/role_id"},
        {"role_id": "", "secret_id_file": "", "token_file": "/run/token"},
        {"mount": "teams/a", "prefix": "x.y", "namespace": "a/b/", "ca_file": "/etc/ca.pem"},
    ],
)
def test_what_is_taken(change):
    KeysSettings(**GOOD | change)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"store": "redis"}, "store"),
        ({"url": ""}, "url"),
        ({"url": "vault.example.org"}, "url"),
        ({"url": "http://vault.example.org:8200"}, "plain HTTP"),
        ({"url": "https://u:p@vault.example.org"}, "more than an address"),
        ({"url": "https://vault.example.org/v1"}, "url"),
        ({"url": "https://vault.example.org?x"}, "more than an address"),
        ({"mount": "../sys"}, "mount"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"prefix": "/a"}, "prefix"),
        ({"prefix": "a?list=true"}, "prefix"),
        ({"auth_mount": ""}, "auth_mount"),
        ({"namespace": "a b"}, "namespace"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": 60_000}, "timeout_ms"),
        ({"role_id": ""}, "one way to enter"),
        ({"token_file": "/run/token"}, "one way to enter"),
        ({"role_id_file": "/run/role"}, "one way to enter"),
        ({"secret_id_file": ""}, "secret id"),
        ({"secret_id_file": "secret"}, "absolute"),
        ({"ca_file": "ca.pem"}, "absolute"),
    ],
)
def test_what_is_refused(change, words):
    with pytest.raises(BadInput, match=words):
        KeysSettings(**GOOD | change)
