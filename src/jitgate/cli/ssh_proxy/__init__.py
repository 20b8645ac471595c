"""The ProxyCommand of our ssh config: a folder that Python runs by itself, without jitctl around it."""

from jitgate.cli.ssh_proxy.tunnel import ALPN, Ticket, TunnelError, ask, dial, open_gateway, secure

__all__ = ["ALPN", "Ticket", "TunnelError", "ask", "dial", "open_gateway", "secure"]
