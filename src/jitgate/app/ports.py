"""The ports that the service opens, and what each does with what comes."""

import contextlib
import errno
import socket
from functools import partial
from ipaddress import ip_address
from typing import NamedTuple

from jitgate.app.http import HttpServer
from jitgate.app.settings import Settings, split_address
from jitgate.core.addresses import is_loopback
from jitgate.core.errors import BadInput, Conflict
from jitgate.gateway.agents import Agents
from jitgate.gateway.listen import Carries, Handler
from jitgate.gateway.settings import Network
from jitgate.gateway.ssh_refusal import refuse_ssh
from jitgate.gateway.tunnel import Tunnels

BACKLOG = 1024


class Port(NamedTuple):
    """What `gateway.listen` takes."""

    listener: socket.socket
    handlers: dict[Carries, Handler]
    proxies: tuple[Network, ...]


def open_ports(settings: Settings, http: HttpServer, tunnels: Tunnels | None, agents: Agents | None) -> list[Port]:
    """The one port, and where it is set the tunnel's own. Raises `Conflict` where another program has one."""
    gateway, (host, number) = settings.gateway, split_address(settings.listen)
    plain: Handler = partial(_take_plain, http)
    handlers: dict[Carries, Handler] = {Carries.SSH: refuse_ssh, Carries.HTTP: plain}
    if settings.url.startswith("https:"):
        handlers |= {Carries.TLS: http.take_tls, Carries.HTTP: plain if is_loopback(host) else _refuse_plain}
    ours: dict[Carries, Handler] = {}
    if tunnels:
        ours[Carries.TUNNEL] = tunnels.take
        if tunnels.dialbacks:
            ours[Carries.DIALBACK] = tunnels.dialbacks.take
    if agents:
        ours[Carries.AGENT] = agents.take
    handlers |= ours
    ports = [Port(open_listener(host, number), handlers, gateway.proxies if gateway.proxy_on == "all" else ())]
    if tunnels and gateway.listen:
        try:
            listener = open_listener(*split_address(gateway.listen))
        except BaseException:
            ports[0].listener.close()
            raise
        own: dict[Carries, Handler] = {Carries.SSH: refuse_ssh, Carries.TLS: tunnels.take}
        if agents:
            own |= ours
        ports.append(Port(listener, own, gateway.proxies))
    return ports


def open_listener(host: str, port: int) -> socket.socket:
    """Raises `Conflict` where another program has the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        what = f"{host} port {port} is taken by another program"
        raise Conflict(what, "ss -ltnp shows by which; or set another `listen` in the settings") from None
    listener.setblocking(False)
    return listener


def check_plain(settings: Settings) -> None:
    host, _ = split_address(settings.listen)
    if settings.url.startswith("http:") and not is_loopback(host):
        raise BadInput("plain HTTP beyond this machine", "make the url https://... or listen on 127.0.0.1")


async def _take_plain(http: HttpServer, connection: socket.socket, source: str) -> None:
    """On loopback, and only for who is there: a proxy on this machine brings others."""
    await (http.take if ip_address(source).is_loopback else _refuse_plain)(connection, source)


async def _refuse_plain(connection: socket.socket, _source: str) -> None:
    """A person who typed http:// where only HTTPS is served."""
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.sendall(
            b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: TLS/1.2, HTTP/1.1\r\nConnection: Upgrade, close\r\n"
            b"Content-Type: text/plain\r\nContent-Length: 25\r\n\r\nthis port speaks https://"
        )
