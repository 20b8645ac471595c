"""The list of host keys that ssh refuses: fetched when it is another one, never left unsound."""

import hashlib
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService
from tests.unit.ssh.made import made

from jitgate.ssh.krl import Krl, dump_krl, parse_krl
from jitgate.ssh.pubkey import Algorithm

pytestmark = pytest.mark.enable_socket  # a service on loopback, made for these tests

KEY = made(Algorithm.ED25519).public.blob
PATH = "/.well-known/jitgate/krl?realm=default&hosts=true"
Fetched = Callable[[], int]


@pytest.fixture
def alice(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]) -> Machine:
    assert sign_in()[0] == 0
    return machine


def names(service: FakeService, data: bytes, *, path: str = PATH, digest: str = "") -> Fetched:
    """The service names this list; how often it was fetched."""
    about: dict[str, Any] = json.loads(json.dumps(service._routes("GET /.well-known/jitgate", {})[1]))
    about["realms"][0]["host_krl"] = {"path": path, "sha256": digest or hashlib.sha256(data).hexdigest()}
    service.instead["GET /.well-known/jitgate"] = lambda _: (200, about)
    service.instead["GET /.well-known/jitgate/krl"] = lambda _: (200, data)
    return lambda: sum(path == PATH for _, path, _, _ in service.requests)


def test_it_is_fetched_when_it_is_another_one(alice: Machine, service: FakeService):
    file = alice.home / ".local/state/jitctl/default/revoked_host_keys"
    fetched = names(service, dump_krl(Krl()))
    for _ in range(2):
        assert alice.jitctl("cert", "get", "web1")[0] == 0
    assert fetched() == 1
    assert not parse_krl(file.read_bytes()).keys
    fetched = names(service, dump_krl(Krl(keys=frozenset([KEY]))))
    assert alice.jitctl("cert", "get", "web1")[0] == 0
    assert fetched() == 2
    assert parse_krl(file.read_bytes()).keys == {KEY}
    assert file.stat().st_mode & 0o777 == 0o600


def test_one_that_changed_meanwhile_is_fetched_again(alice: Machine, service: FakeService):
    fetched = names(service, dump_krl(Krl()), digest="0" * 64)
    for count in (1, 2):
        assert alice.jitctl("cert", "get", "web1")[0] == 0
        assert fetched() == count


@pytest.mark.parametrize(
    "data", [b"", b"no list", dump_krl(Krl())[:-1], dump_krl(Krl()) + b"\x06\0\0\0\0", b"x" * (2 << 20)]
)
def test_one_that_is_unsound_is_not_kept(alice: Machine, service: FakeService, data: bytes):
    file = alice.home / ".local/state/jitctl/default/revoked_host_keys"
    names(service, dump_krl(Krl(keys=frozenset([KEY]))))
    assert alice.jitctl("cert", "get", "web1")[0] == 0
    before = file.read_bytes()
    names(service, data)
    status, _, err = alice.jitctl("cert", "get", "web1")
    assert (status, file.read_bytes()) == (1, before), err


@pytest.mark.parametrize(
    "path", ["https://elsewhere.example/krl", "/v1/grants", "/.well-known/jitgate/krl?../../x", ""]
)
def test_it_is_fetched_from_its_own_place_only(alice: Machine, service: FakeService, path: str):
    names(service, dump_krl(Krl()), path=path)
    before = len(service.requests)
    assert alice.jitctl("cert", "get", "web1")[0] == 1
    assert all(
        asked in ("/.well-known/jitgate", "/v1/hosts") or "/v1/grants" in asked
        for _, asked, _, _ in service.requests[before:]
    )
