"""The signer's process, put together: as a child with one connection, which ends with it; or apart, at a socket."""

import gc
import os
import pwd
import signal
import socket
import sys
import time
from collections.abc import Callable, Collection
from pathlib import Path

from jitgate.adapters.signers import protocol
from jitgate.adapters.signers.desk import Desk
from jitgate.adapters.signers.harden import give_up, harden
from jitgate.adapters.signers.ledger import Ledger
from jitgate.adapters.signers.listen import open_listener, serve_all
from jitgate.adapters.signers.mounts import MountKeys
from jitgate.adapters.signers.rules_file import RulesFile
from jitgate.adapters.signers.server import serve
from jitgate.adapters.signers.watch import Watch
from jitgate.app.notify import notify
from jitgate.core.clock import Micros, system_clock
from jitgate.core.errors import Error, NotFound, UsageError
from jitgate.core.text import shown

PATIENCE_S = 10.0  # for the signer of a service that was killed, which ends once it has finished its batch


def run(fd: int, keys: Path, rules: Path, state: Path) -> int:
    """Serve the connection `fd` until the other side closes it; the exit status."""
    connection = _inherited(fd)
    try:
        file = RulesFile(rules)
        harden(fd, threads=file.rules.places.pkcs11 is not None)
        desk, ledger, look = _open(keys, file, state)
    except Error as error:
        connection.sendall(protocol.put_failed(error.what, error.hint))
        return _said(error.what)
    except OSError as error:
        connection.sendall(protocol.put_failed(f"{error.filename or state}: {error.strerror}", ""))
        return _said(str(error))
    gc.freeze()  # what is there now stays: it need not be looked through for garbage
    try:
        serve(connection, desk, ledger, look)
    except Error as error:
        return _said(f"the service sent what it may not: {error.what}")
    except (BrokenPipeError, ConnectionResetError):
        return _said("the service went away before it was answered")
    except OSError as error:
        return _said(f"the list cannot be written, nothing was signed: {error.strerror}")
    return 0


def run_apart(path: Path, users: Collection[str], keys: Path, rules: Path, state: Path) -> int:
    """Serve whoever of these users connects to the socket `path`, until SIGTERM or SIGINT; the exit status.

    Raises what is wrong with the keys, the rules or the socket.
    """
    uids = {_uid_of(user) for user in users}
    ended: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _frame: ended.append(number))
    file = RulesFile(rules)
    give_up(threads=file.rules.places.pkcs11 is not None)
    desk, ledger, look = _open(keys, file, state)
    if os.geteuid() in uids:
        what = "it runs as the user who asks it, who can read its keys: give it one of its own"
        sys.stderr.write(f"jitgate signer: warning: {what}\n")

    def alive() -> None:
        look()
        notify("WATCHDOG=1")  # a token's library that hangs hangs all of it

    gc.freeze()
    with open_listener(path) as listener:
        notify("READY=1")
        try:
            serve_all(listener, uids, desk, ledger, alive, lambda: bool(ended))
        except OSError as error:
            return _said(f"the list cannot be written, nothing was signed: {error.strerror}")
        finally:
            path.unlink(missing_ok=True)
    return 0


def _uid_of(user: str) -> int:
    if user.isdecimal():
        return int(user)
    try:
        return pwd.getpwnam(user).pw_uid
    except KeyError:
        raise NotFound(f"there is no user {shown(user)}", "--for USER: the one who runs jitgate serve") from None


def _open(keys: Path, file: RulesFile, state: Path) -> tuple[Desk, Ledger, Callable[[], None]]:
    ledger = Ledger(state, patience_s=PATIENCE_S)
    watch = Watch(keys, file.rules)
    desk = Desk(file.rules, watch.begin(), ledger.summary(), ledger.append, clock=system_clock, tick=_monotonic)
    desk.refused, desk.lost = watch.refused, watch.lost
    mounts = MountKeys(state)
    mounts.hold_all(desk)
    desk.keep = mounts.keep

    def look() -> None:
        file.look(desk, watch)
        watch.look(desk)
        mounts.hold_all(desk)

    return desk, ledger, look


def _inherited(fd: int) -> socket.socket:
    try:
        connection = socket.socket(fileno=fd)
    except OSError:
        raise UsageError(f"no connection at descriptor {fd}", "the signer is started by jitgate serve") from None
    if connection.family != socket.AF_UNIX or connection.type != socket.SOCK_STREAM:
        raise UsageError(f"descriptor {fd} is not a connection within this machine")
    os.set_inheritable(fd, False)
    return connection


def _monotonic() -> Micros:
    return time.monotonic_ns() // 1000


def _said(text: str) -> int:
    sys.stderr.write(f"jitgate signer: error: {text}\n")
    return 1
