"""The gateway's part of the program: its settings made into a path and into tunnels."""

import os
import socket
import ssl
from contextlib import suppress
from pathlib import Path

from jitgate.app.installation import sealing_key
from jitgate.app.settings import Settings
from jitgate.app.telemetry import Telemetry
from jitgate.app.tls import load_certificate, write_secret
from jitgate.core.clock import Micros
from jitgate.core.errors import Unsafe
from jitgate.core.ids import is_id, new_id
from jitgate.flow.outside import Outside
from jitgate.gateway.handshake import tunnel_context
from jitgate.gateway.tunnel import Tunnels
from jitgate.sessions.path import GatewayPath
from jitgate.sessions.ticket import ticket_key

NODE_NAME_MAX = 255


def gateway_path(settings: Settings, now: Micros) -> GatewayPath | None:
    """None where people connect directly: no TLS, so no tunnel."""
    chosen = settings.gateway
    if not chosen.enabled or not settings.url.startswith("https:"):
        return None
    address, port, server_name = chosen.dialled(settings.url)
    return GatewayPath(
        address=address,
        port=port,
        server_name=server_name,
        keep_tls=chosen.keep_tls,
        networks=chosen.addresses,
        only=chosen.only,
        key=ticket_key(sealing_key(settings)),
        node=_node(settings.state / "node", now),
    )


def open_tunnels(settings: Settings, outside: Outside, telemetry: Telemetry) -> Tunnels | None:
    if outside.gateway is None:
        return None
    context = tunnel_context()
    load_certificate(context, settings, outside.clock())
    return Tunnels(outside, context, telemetry, socket.gethostname()[:NODE_NAME_MAX])


def contexts(tls: ssl.SSLContext | None, tunnels: Tunnels | None) -> list[ssl.SSLContext]:
    """Those that serve the installation's certificate."""
    return [each for each in (tls, tunnels.context if tunnels else None) if each is not None]


def _node(path: Path, now: Micros) -> str:
    """This installation's id among those that share a database; made at its first start."""
    with suppress(FileNotFoundError):
        found = path.read_text().strip()
        if not is_id(found):
            raise Unsafe(f"{path} holds no id", "remove it: the next start makes one")
        return found
    made = new_id(now, os.urandom)
    write_secret(path, made.encode() + b"\n")
    return made
