"""A gateway made of canned verdicts, on loopback, for the client's tests only: it admits whoever it is told to."""

import contextlib
import json
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jitgate.app.settings import Settings
from jitgate.app.tls import authority_pem, make_authority, server_context
from jitgate.cli.ssh_proxy import ALPN
from jitgate.core.clock import system_clock

Json = dict[str, Any]
TICKET = "jgt_" + "t" * 60
OK: Json = {"ok": True, "session": "01J8Z0K3V4WQ2M5N6P7R8S9TSS", "ends_at": "2030-01-01T00:00:00Z"}


class FakeGateway:
    """`instead(hello)` is what it answers, in bytes or as a document; `alpn`: what it says it speaks."""

    def __init__(self, folder: Path, target: tuple[str, int], *, keep_tls: bool = False, alpn: str = ALPN) -> None:
        settings = Settings(state=folder, url="https://127.0.0.1:1")
        folder.mkdir(mode=0o700)
        make_authority(settings, system_clock())
        self.ca_file = folder / "pinned.pem"
        self.ca_file.write_bytes(authority_pem(settings))
        self._context = server_context(settings, system_clock())
        self._context.set_alpn_protocols([alpn])
        self.target, self.keep_tls = target, keep_tls
        self.hellos: list[Json] = []
        self.instead: Callable[[Json], Json | bytes] = lambda _: OK
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._open: list[socket.socket] = []
        self._serving: list[threading.Thread] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def ticket(self, path: Path, **changes: object) -> Path:
        """A ticket file for it, as jitctl writes one."""
        row: Json = {"ticket": TICKET, "host": "web1", "address": "127.0.0.1", "port": self.port}
        row |= {"server_name": "127.0.0.1", "keep_tls": self.keep_tls, "ca_file": str(self.ca_file)}
        path.touch(0o600)
        path.write_text(json.dumps(row | changes, indent=0))
        return path

    def stop(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._serving:
            thread.join()
        for connection in (self._listener, *self._open):
            connection.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self._open.append(connection)
                self._serving.append(threading.Thread(target=self._serve, args=(connection,), daemon=True))
                self._serving[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError, struct.error):
            secured = self._context.wrap_socket(connection, server_side=True)
            self._open.append(secured)
            (size,) = struct.unpack(">I", secured.recv(4))
            hello = json.loads(secured.recv(size))
            self.hellos.append(hello)
            verdict = self.instead(hello)
            raw = verdict if isinstance(verdict, bytes) else json.dumps(verdict).encode()
            secured.sendall(raw if isinstance(verdict, bytes) else struct.pack(">I", len(raw)) + raw)
            if verdict != OK:
                secured.close()
                return
            host = socket.create_connection(self.target)
            self._open.append(host)
            if self.keep_tls:
                threading.Thread(target=_until_both_end_tls, args=(secured, host), daemon=True).start()
                return
            bare = secured.unwrap()
            for one, other in ((bare, host), (host, bare)):
                threading.Thread(target=_carry, args=(one, other), daemon=True).start()


def _carry(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def _until_both_end_tls(secured: Any, host: socket.socket) -> None:
    """One thread, because OpenSSL's connection is for one at a time."""
    secured.settimeout(0.01)
    host.settimeout(0.01)
    with contextlib.suppress(OSError):
        _carry_tls(secured, host)
    secured.close()
    host.close()


def _carry_tls(secured: Any, host: socket.socket) -> None:
    up = down = True
    while up or down:
        if up:
            with contextlib.suppress(TimeoutError):
                data = secured.recv(1 << 16)
                host.settimeout(10)
                host.sendall(data) if data else host.shutdown(socket.SHUT_WR)
                host.settimeout(0.01)
                up = bool(data)
        if down:
            with contextlib.suppress(TimeoutError):
                data = host.recv(1 << 16)
                secured.settimeout(10)
                if data:
                    secured.sendall(data)
                else:
                    with contextlib.suppress(OSError):
                        secured.unwrap()
                secured.settimeout(0.01)
                down = bool(data)
