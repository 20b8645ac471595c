"""What the signer gives up before it reads a key. Linux only, as the product is."""

import ctypes
import os
import resource
import signal
from typing import Final

from jitgate.core.errors import Unsafe

# The numbers of prctl, from linux/prctl.h
_PR_SET_DUMPABLE: Final = 4
_PR_SET_NO_NEW_PRIVS: Final = 38


def harden(connection: int, *, threads: bool = False) -> None:
    """No file of the service but `connection`, and what `give_up` says.

    Its life is its connection: signals that end a whole process group or unit are left to the service, which stops
    answering people first and then closes the connection.
    """
    os.closerange(3, connection)  # not every event loop closes what a child need not have
    os.closerange(connection + 1, os.sysconf("SC_OPEN_MAX"))
    give_up(threads=threads)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def give_up(*, threads: bool = False) -> None:
    """No core dump, no tracing by others of this user, no new privileges, no children, few files.

    `threads`: a token's library may start some, which Linux counts as children.
    """
    os.umask(0o077)
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_DUMPABLE, 0), (_PR_SET_NO_NEW_PRIVS, 1)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise Unsafe(f"prctl {option} failed: {os.strerror(ctypes.get_errno())}")
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 64}
    for limit, most in (limits if threads else limits | {resource.RLIMIT_NPROC: 0}).items():
        resource.setrlimit(limit, (most, most))
