"""Addresses of machines."""

from ipaddress import ip_address


def is_loopback(host: str) -> bool:
    """Whether what is sent there stays on this machine. `host`: a name, or an address without brackets."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
