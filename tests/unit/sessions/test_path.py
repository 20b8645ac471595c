"""What the gateway means for a certificate's `source-address`."""

from dataclasses import replace

import pytest

from jitgate.core.secret import Secret
from jitgate.sessions.path import GatewayPath

PATH = GatewayPath(
    "gate", 443, "gate", keep_tls=False, networks=("192.0.2.5/32", "2001:db8::5/128"), only=False, key=Secret(b"")
)
BOTH = "192.0.2.5/32,2001:db8::5/128"
HERE = (("force-command", "uptime"), ("source-address", "198.51.100.0/24"))


@pytest.mark.parametrize(
    ("path", "options", "carried", "stands"),
    [
        (PATH, (), True, ""),
        (PATH, HERE, True, BOTH),
        (replace(PATH, only=True), (), True, BOTH),
        (replace(PATH, only=True), HERE, True, BOTH),
        (replace(PATH, networks=()), (), True, ""),
        (replace(PATH, networks=()), HERE, False, ""),
    ],
)
def test_the_gateways_own_stand_for_a_grants_networks(
    path: GatewayPath, options: tuple[tuple[str, str], ...], *, carried: bool, stands: str
):
    assert path.carries(options) is carried
    assert path.stands_for(options) == stands


def test_the_ticket_key_is_not_shown():
    assert "a secret" not in repr(replace(PATH, key=Secret(b"a secret")))
