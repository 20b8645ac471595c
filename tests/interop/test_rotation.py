"""CA keys are replaced by a plan while somebody opens one session after the other: real ssh, real sshd, none fails."""

import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests import people
from tests.interop.test_ca_rotation import tell
from tests.people import Person

from jitgate.app.control import Json
from jitgate.app.demo.join import joined_hosts
from jitgate.app.demo.world import World, open_world
from jitgate.app.key_files import make_next_key
from jitgate.app.operate import operate
from jitgate.ca.realms import CaKind
from jitgate.core.errors import Error
from jitgate.policy.bundle import load_files
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.pubkey import parse_public_key_line

PATIENCE_S = 30.0
ROLE = b"""
role: web
effect: allow
who: {groups: [engineers]}
what: {labels: {tier: web}}
as: [ubuntu, deploy]
how_long: {grant: 1h, certificate: 14s}
extensions: [permit-pty]
"""


@pytest.fixture
def world(programs: Mapping[str, Path]) -> Iterator[World]:
    assert programs
    with tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder, open_world(Path(folder)) as opened:
        operate(opened.settings, "policy apply", {"bundle": load_files({"web.yaml": ROLE}).text})
        yield opened


@dataclass
class Sessions:
    """What came of each login, and the CA keys that the certificates were by."""

    words: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    keys: set[str] = field(default_factory=set)


@contextmanager
def sessions(alice: Person) -> Iterator[Sessions]:
    """Somebody opens one session after the other, until the block ends."""
    seen, over = Sessions(), threading.Event()

    def work(login: str) -> None:
        while not over.is_set():
            done = alice.run("ssh", "-F", str(alice.config), f"{login}@web1", "echo $USER")
            if done.returncode or done.stdout != f"{login}\n":
                seen.failed.append(done.stderr)
            else:
                seen.words.append(done.stdout)
            for path in (alice.state / "certs").glob("*/*-cert.pub"):
                seen.keys.add(parse_certificate_line(path.read_text()).body.ca.fingerprint)
            over.wait(0.2)  # several in each second, and time for others

    workers = [threading.Thread(target=work, args=(login,)) for login in ("ubuntu", "deploy")]
    for each in workers:
        each.start()
    try:
        yield seen
        more = len(seen.words) + 2
        wait_for(lambda: len(seen.words) >= more or bool(seen.failed))
    finally:
        over.set()
        for each in workers:
            each.join()


def wait_for(true: object) -> None:
    until = time.monotonic() + PATIENCE_S
    while not true():  # type: ignore[operator]  # a function
        assert time.monotonic() < until
        time.sleep(0.1)


def act(world: World, name: str, kind: CaKind, **more: object) -> Json:
    return operate(world.settings, f"ca rotate {name}", {"kind": kind, "realm": "default", "reason": "", **more})


def start(world: World, kind: CaKind) -> Json:
    """With a new key in the signer's folder, as soon as the signer holds it."""
    name = make_next_key(world.settings, "default", kind, f"{kind}_ca")
    wait_for(lambda: any(row["file"] == name for row in operate(world.settings, "ca ls", {})["keys"]))
    return act(world, "start", kind, key=name, emergency=False)


def advance(world: World, kind: CaKind, *, by_hand: bool = True) -> str:
    """Tell the hosts that hold it up, or leave that to their agents; wait for what only takes time, and go on."""
    until = time.monotonic() + PATIENCE_S
    while waiting := operate(world.settings, "ca rotate status", {})["plans"][0]["obstacles"]:
        for host in {each["host"] for each in waiting if by_hand and each["host"] and not each["ready_at"]}:
            with pytest.raises(Error, match=host):
                act(world, "advance", kind)
            tell(world, host)
        assert time.monotonic() < until, waiting
        time.sleep(0.2)
    return str(act(world, "advance", kind)["step"])


pytestmark = pytest.mark.timeout(180)  # people's certificates have to end, twice
KINDS = pytest.mark.parametrize("kind", [CaKind.USER, CaKind.HOST])


@KINDS
def test_while_a_key_is_replaced_no_login_fails(world: World, kind: CaKind):
    alice = people.sign_in(world, "alice")
    for login in ("ubuntu", "deploy"):
        alice.jitctl("vm", "connect", f"{login}@web1", "--", "true")
    with sessions(alice) as seen:
        begun = start(world, kind)
        steps = [advance(world, kind) for _ in range(3)]
    assert steps == ["use", "retire", "done"]
    _check(alice, kind, begun, seen)


def _check(alice: Person, kind: CaKind, begun: Json, seen: Sessions) -> None:
    assert not seen.failed, seen.failed[0]
    assert len(seen.words) >= 4
    old, new = begun["old"]["fingerprint"], begun["new"]["fingerprint"]
    alice.jitctl("vm", "connect", "ubuntu@web1", "--", "true")  # whoever comes next has forgotten the old one
    known = (alice.state / "known_hosts").read_text()
    if kind is CaKind.USER:
        assert {old, new} <= seen.keys
    else:
        authorities = [parse_public_key_line(line.split(" ", 2)[2])[0] for line in known.splitlines()]
        assert [each.fingerprint for each in authorities] == [new]


@pytest.fixture(scope="module")
def agents_world(programs: Mapping[str, Path]) -> Iterator[tuple[World, Person]]:
    """Hosts that have joined, with an agent each; alice has been on one of them."""
    assert programs
    with (
        tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder,
        open_world(Path(folder), trusted=False) as opened,
        joined_hosts(opened),
    ):
        operate(opened.settings, "policy apply", {"bundle": load_files({"web.yaml": ROLE}).text})
        alice = people.sign_in(opened, "alice")
        for login in ("ubuntu", "deploy"):
            alice.jitctl("vm", "connect", f"{login}@web1", "--", "true")
        yield opened, alice


@KINDS
def test_agents_do_what_an_operator_did_and_no_login_fails(agents_world: tuple[World, Person], kind: CaKind):
    world, alice = agents_world
    with sessions(alice) as seen:
        begun = start(world, kind)
        steps = [advance(world, kind, by_hand=False) for _ in range(3)]
    assert steps == ["use", "retire", "done"]
    _check(alice, kind, begun, seen)
