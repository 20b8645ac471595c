"""`[[provider]]`: what would let the wrong ones in is refused when the settings are read."""

from typing import Any

import pytest

from jitgate.core.errors import BadInput
from jitgate.identity.providers import ProviderSettings, check_providers

GIVEN: dict[str, Any] = {"name": "corp", "issuer": "https://idp.example.com/dex", "client_id": "jitctl"}


def settings(**more: Any) -> ProviderSettings:
    return ProviderSettings(**(GIVEN | more))


@pytest.mark.parametrize(
    "issuer",
    [
        "https://accounts.google.com",
        "https://idp.example.com/realms/corp/",
        "http://127.0.0.1:5556",
        "http://[::1]",
        "http://[::1]:5556/dex",
    ],
)
def test_issuers(issuer: str):
    assert settings(issuer=issuer).issuer == issuer


@pytest.mark.parametrize(
    "wrong",
    [
        {"name": "local"},
        {"name": "Corp"},
        {"name": ""},
        {"issuer": "http://idp.example.com"},
        {"issuer": "http://127.0.0.1.example.com"},
        {"issuer": "https://idp.example.com?x=1"},
        {"issuer": "https://idp.example.com#x"},
        {"issuer": "https://user@idp.example.com"},
        {"issuer": "idp.example.com"},
        {"issuer": "file:///etc"},
        {"issuer": "https://"},
        {"issuer": "https://idp.example.com/" + "x" * 255},
        {"client_id": ""},
        {"client_id": "jit\nctl"},
        {"service_client_id": "jitgate"},
        {"client_secret_file": "/etc/jitgate/secret"},
        {"scopes": ()},
        {"scopes": ("profile",)},
        {"scopes": ("openid", "a\nb")},
        {"algorithms": ()},
        {"algorithms": ("none",)},
        {"algorithms": ("NONE", "RS256")},
        {"algorithms": ("RS256", "HS256")},
        {"algorithms": ("rs256",)},
        {"people": "all"},
        {"people": "create", "name_claim": ""},
        {"groups": "ldap"},
        {"groups": "token", "groups_claim": ""},
        {"groups": "directory", "directory_claim": ""},
        {"group_prefix": "corp "},
        {"sign_in_minutes": 0},
        {"sign_in_minutes": 1441},
        {"key_minutes": 0},
    ],
    ids=str,
)
def test_what_is_refused(wrong: dict[str, Any]):
    with pytest.raises(BadInput):
        settings(**wrong)


def test_the_device_flow_is_there_with_a_client_for_it():
    assert settings().flows == ("code",)
    assert settings(service_client_id="jitgate", client_secret_file="/s").flows == ("code", "device")


@pytest.mark.parametrize("same", ["name", "issuer"])
def test_two_providers_share_neither_name_nor_issuer(same: str):
    other = {"name": "other", "issuer": "https://other.example.com"} | {same: GIVEN[same]}
    with pytest.raises(BadInput, match=same):
        check_providers((settings(), settings(**other)))
