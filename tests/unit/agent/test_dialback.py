"""Where an agent connects for a session that is dialled back, and what makes it do so."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from jitgate.agent.dialback import Dialler, LocalSshd, carry, local_sshd, parse_at
from jitgate.agent.pins import Gateway
from jitgate.core.errors import BadInput, Unreachable
from jitgate.hosts.agent_wire import Dial

pytestmark = pytest.mark.enable_socket  # whether an address is this machine's, the system says

IDS = ("01HF7YAT005TR67YA6P97ZRKFB", "01HF7YAT005TR67YA6P97ZRKFC")
GATEWAY = Gateway("127.0.0.1", 1, "127.0.0.1")


@pytest.mark.parametrize("text", ["127.0.0.1:22", "[::1]:2222", "127.0.0.2:1"])
def test_what_is_this_machines(text: str):
    assert str(parse_at(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "22", ":22", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0", "127.0.0.1:65536", "127.0.0.1:22:22"),
        *("localhost:22", "0.0.0.0:22", "[::]:22", "::1:22", "127.1:22", "127.0.0.1:22\n", "[fe80::1%eth0]:22"),
        *("192.0.2.7:22", "[2001:db8::7]:22", "224.0.0.1:22", "169.254.169.254:80"),
    ],
)
def test_what_is_another_machines_or_none(text: str):
    with pytest.raises(BadInput):
        parse_at(text)


@pytest.mark.parametrize(
    ("listens", "found"),
    [
        (("0.0.0.0:22", "[::]:22"), LocalSshd("127.0.0.1", 22)),
        (("[::]:2222",), LocalSshd("::1", 2222)),
        (("192.0.2.7:22", "127.0.0.1:2022"), LocalSshd("127.0.0.1", 2022)),
        (("192.0.2.7:22",), None),
        ((), None),
    ],
)
def test_which_sshd_it_is_sshd_says(listens: tuple[str, ...], found: LocalSshd | None):
    assert local_sshd({"listenaddress": listens}) == found


@pytest.fixture
def sshd() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)
        yield listener


def came(listener: socket.socket) -> bool:
    try:
        listener.accept()[0].close()
    except TimeoutError:
        return False
    return True


def asked_twice(sshd: socket.socket) -> Dialler:
    def nowhere() -> bytes:
        raise Unreachable("no gateway in this test")

    return Dialler(LocalSshd("127.0.0.1", sshd.getsockname()[1]), nowhere, lambda: 1_000_000, lambda: 5)


async def test_it_connects_once_for_one_question(sshd: socket.socket):
    dialler = asked_twice(sshd)
    await dialler.dial_back(Dial(IDS[0], "0" * 64, 1_000_006), GATEWAY)
    assert came(sshd)
    await dialler.dial_back(Dial(IDS[0], "0" * 64, 1_000_006), GATEWAY)
    assert not came(sshd)
    await dialler.dial_back(Dial(IDS[1], "0" * 64, 1_000_006), GATEWAY)
    assert came(sshd)


async def test_a_late_question_is_left(sshd: socket.socket):
    await asked_twice(sshd).dial_back(Dial(IDS[0], "0" * 64, 1_000_005), GATEWAY)
    assert not came(sshd)


async def test_every_byte_both_ways_and_each_end():
    (one, near), (other, far) = socket.socketpair(), socket.socketpair()
    for each in (near, far, one, other):
        each.setblocking(False)
    loop = asyncio.get_running_loop()
    carrying = asyncio.create_task(carry(near, far))
    await loop.sock_sendall(one, b"up")
    one.shutdown(socket.SHUT_WR)
    assert await loop.sock_recv(other, 9) == b"up"
    assert await loop.sock_recv(other, 9) == b""
    await loop.sock_sendall(other, b"last words")
    other.close()
    assert await loop.sock_recv(one, 20) == b"last words"
    assert await loop.sock_recv(one, 9) == b""
    await asyncio.wait_for(carrying, 5)
    one.close()
    assert (near.fileno(), far.fileno()) == (-1, -1)
