"""Who is at the other end of a Unix socket."""

import socket
import struct

_FORM = "3i"


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end, as the kernel knows them (unix(7), SO_PEERCRED). Raises `OSError`."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(_FORM))
    pid, uid, _ = struct.unpack(_FORM, found)
    return pid, uid
