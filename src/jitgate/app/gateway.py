"""The gateway's part of the program: its settings made into a path and into tunnels."""

import socket
import ssl
from functools import partial

from jitgate.app.installation import sealing_key
from jitgate.app.settings import Settings
from jitgate.app.telemetry import Telemetry
from jitgate.app.tls import load_certificate, login_url
from jitgate.flow.host_logins import take_host_report
from jitgate.flow.outside import Outside
from jitgate.gateway.agent_link import agent_context
from jitgate.gateway.agents import Agents
from jitgate.gateway.dialback import Dialbacks, dialback_context
from jitgate.gateway.handshake import tunnel_context
from jitgate.gateway.tunnel import Tunnels
from jitgate.sessions.path import AgentGateway, AgentWay, GatewayPath
from jitgate.sessions.ticket import ticket_key


def gateway_path(settings: Settings) -> GatewayPath | None:
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
    )


def agent_way(settings: Settings) -> AgentWay | None:
    """None where there is no https that an agent could reach."""
    if not settings.url.startswith("https:"):
        return None
    url, _, pin = login_url(settings).partition("#")
    gateways = tuple(AgentGateway(*each) for each in settings.gateway.agents_dial(settings.url))
    return AgentWay(url, pin, gateways)


async def open_agents(
    settings: Settings, outside: Outside, tunnels: Tunnels | None, telemetry: Telemetry
) -> Agents | None:
    """None where agents cannot reach us, or the signer has no keys for them. The tunnels learn of the way back."""
    if outside.agents is None or (await outside.signer.keys()).agents is None:
        return None
    context = agent_context()
    load_certificate(context, settings, outside.clock())
    agents = Agents(outside, context, partial(take_host_report, outside))
    await agents.start()
    telemetry.agents.set_function(lambda: agents.count)
    if tunnels:
        context = dialback_context()
        load_certificate(context, settings, outside.clock())
        tunnels.dialbacks = Dialbacks(agents, context, outside.clock, outside.random, outside.new_id)
    return agents


async def open_tunnels(settings: Settings, outside: Outside, telemetry: Telemetry) -> Tunnels | None:
    """None where there is no gateway. What this node left open when it crashed is closed before."""
    if outside.gateway is None:
        return None
    context = tunnel_context()
    load_certificate(context, settings, outside.clock())
    tunnels = Tunnels(outside, context, telemetry, socket.gethostname())
    await tunnels.start()
    return tunnels


def contexts(tls: ssl.SSLContext | None, tunnels: Tunnels | None, agents: Agents | None) -> list[ssl.SSLContext]:
    """Those that serve the installation's certificate."""
    dialbacks = tunnels.dialbacks.context if tunnels and tunnels.dialbacks else None
    found = (tls, tunnels.context if tunnels else None, agents.context if agents else None, dialbacks)
    return [each for each in found if each is not None]
