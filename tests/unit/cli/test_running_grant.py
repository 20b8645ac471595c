"""Which of a person's running grants is used for a host: those of a Vault mount stand in nobody's way."""

from typing import Any, cast

from jitgate.cli.access import Wish, running_grant
from jitgate.cli.answers import Host
from jitgate.cli.service import Service

WEB1 = Host("web1", "default", "192.0.2.1", 22, ())
ENDS = "2026-11-22T12:00:00Z"


class FakeService:
    def __init__(self, *grants: dict[str, Any]) -> None:
        self.grants = grants

    def get(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        assert (path, query) == ("/v1/grants", {"host": "web1"})
        return {"grants": list(self.grants)}


def grant(host: str, login: str = "ubuntu", realm: str = "default", **more: str) -> dict[str, Any]:
    row = {"id": "01HF7YAT00TEST00000000000A", "host": host, "login": login, "realm": realm, "role": "web"}
    return row | {"ends_at": ENDS, "reason": "", "state": "active"} | more


def found(*grants: dict[str, Any]) -> object:
    return running_grant(cast("Service", FakeService(*grants)), WEB1, None, Wish("web1"))


def test_a_mounts_grant_is_none_for_a_host():
    assert found(grant("*", realm="vault-ssh")) is None
    chosen = found(grant("*", realm="vault-ssh"), grant("web1"), grant("db1"))
    assert chosen is not None
    assert found(grant("web1", state="ended")) is None
