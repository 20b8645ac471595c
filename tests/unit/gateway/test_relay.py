"""A relayed tunnel (`keep_tls`) that is told to end does, with its sockets closed."""

import asyncio
import socket
import ssl
from typing import Any, cast

import pytest

from jitgate.gateway.relay import Relays

pytestmark = pytest.mark.enable_socket  # pairs of sockets are what is carried


async def test_one_that_is_ended_before_its_first_step_says_so_once():
    """Else the log never has its end, and its grant counts it for ever."""
    ended: list[tuple[Any, ...]] = []
    relays = Relays(lambda *told: ended.append(told), lambda *_: None)
    client, theirs = socket.socketpair()
    host, sshd = socket.socketpair()
    with client, theirs, host, sshd:
        client.setblocking(False)
        host.setblocking(False)
        relays.carry("01HF7YAT005TR67YA6P97ZRKFB", cast("ssl.SSLSocket", client), host)
        relays.end("01HF7YAT005TR67YA6P97ZRKFB")
        relays.end("01HF7YAT005TR67YA6P97ZRKFB")
        await asyncio.wait_for(relays.stop(), 5)
        await asyncio.sleep(0)
        assert ended == [("01HF7YAT005TR67YA6P97ZRKFB", None, 0, 0)]
        assert (client.fileno(), host.fileno()) == (-1, -1)
