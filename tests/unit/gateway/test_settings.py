"""The table `[gateway]`: what people are told to dial, and what is refused."""

import pytest

from jitgate.core.errors import BadInput
from jitgate.gateway.settings import GatewaySettings

URL = "https://jit.example.org:8443"


@pytest.mark.parametrize(
    ("given", "url", "told"),
    [
        ({}, URL, ("jit.example.org", 8443, "jit.example.org")),
        ({}, "https://jit.example.org", ("jit.example.org", 443, "jit.example.org")),
        ({}, "https://[2001:db8::1]:8443", ("2001:db8::1", 8443, "2001:db8::1")),
        ({"address": "gate.example.org"}, URL, ("gate.example.org", 8443, "jit.example.org")),
        ({"address": "gate.example.org:443"}, URL, ("gate.example.org", 443, "jit.example.org")),
        ({"address": "[2001:db8::2]:2222"}, URL, ("2001:db8::2", 2222, "jit.example.org")),
        ({"server_name": "ssh.example.org"}, URL, ("jit.example.org", 8443, "ssh.example.org")),
        ({"listen": "0.0.0.0:2222"}, URL, ("jit.example.org", 2222, "jit.example.org")),
        (
            {"listen": "0.0.0.0:2222", "address": "gate.example.org:22"},
            URL,
            ("gate.example.org", 22, "jit.example.org"),
        ),
    ],
)
def test_what_people_dial(given: dict[str, str], url: str, told: tuple[str, int, str]):
    assert GatewaySettings(**given).dialled(url) == told  # type: ignore[arg-type]  # texts, all of them


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "gate.example.org:x"},
        {"address": "gate.example.org:443/path"},
        {"address": "user@gate.example.org"},
        {"address": ":443"},
        {"listen": "2222x"},
        {"proxy_from": ("10.0.0.1/8",)},
        {"proxy_from": ("traefik",)},
        {"proxy_on": "none"},
        {"proxy_on": "tunnel"},
        {"addresses": ("10.0.0.5/24",)},
        {"addresses": tuple(f"10.0.0.{at}/32" for at in range(17))},
        {"only": True},
    ],
)
def test_settings_that_are_refused(wrong: dict[str, object]):
    with pytest.raises(BadInput):
        GatewaySettings(**wrong)  # type: ignore[arg-type]  # wrong on purpose
