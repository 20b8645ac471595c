"""Where the browser comes back to: one answer, on a port of this machine that is open while it is waited for.

RFC 8252 section 7.3: http://127.0.0.1:PORT/callback. Any program of this machine can send something there: only what
carries our `state` is taken, once.
"""

import hmac
import os
import queue
import select
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self
from urllib.parse import parse_qsl, urlsplit

from jitgate.core.errors import Unreachable, UsageError

PATH = "/callback"
_TERMINAL = Path("/dev/tty")
_ADDRESS = "127.0.0.1"
_FIELDS_MAX = 20
_HANDLER_S = 10.0  # for one request to be sent; browsers open connections that they never use
_VERDICT_S = 60.0  # for the page to learn how it ended
_PASTE_TRIES = 3
_LINE_MAX = 1 << 16
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>body {{ font: 1.1rem/1.5 system-ui, sans-serif; max-width: 32rem; margin: 20vh auto; padding: 0 1rem }}</style>
</head><body><h1>{title}</h1><p>{text}</p></body></html>
"""
_SIGNED_IN = ("You are signed in", "You can close this window: jitctl goes on in your terminal.")
_FAILED = ("You are not signed in", "Your terminal says why. You can close this window.")
_FOREIGN = (
    "This is not an answer to your sign-in",
    "If you are signing in, look at the newest window, or begin again.",
)

Fields = Mapping[str, str]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Says nothing of a browser that hung up."""


class Loopback:
    """Listens from the beginning; use as a context, which closes the port and tells the page how it ended."""

    def __init__(self, state: str) -> None:
        self._state = state
        self._answers: queue.SimpleQueue[Fields] = queue.SimpleQueue()
        self._verdict: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._lock, self._taken, self._written = threading.Lock(), False, threading.Event()
        self._woken, self._wake = os.pipe()
        self._server = _Server((_ADDRESS, 0), _handler(self))
        self.host = f"{_ADDRESS}:{self._server.server_port}"
        self.redirect_uri = f"http://{self.host}{PATH}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._verdict.put(kind is None)
        with self._lock:
            answered, self._taken = self._taken, True
        if answered:
            self._written.wait(_HANDLER_S)
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        os.close(self._woken)
        os.close(self._wake)

    def wait(self, seconds: float, *, paste: bool) -> Fields:
        """The fields of the provider's answer. `paste`: may also be typed on the terminal. `Unreachable` in the end."""
        until = time.monotonic() + seconds
        if not paste:
            return self._wait(until, None) or {}
        with _TERMINAL.open("rb+", buffering=0) as terminal:
            for _ in range(_PASTE_TRIES):
                terminal.write(b"or paste the address that your browser shows in the end: ")
                if found := self._wait(until, terminal.fileno()):
                    return found
                terminal.write(f"that is not it: it begins with {self.redirect_uri}\n".encode())
        raise UsageError(
            "no address of this sign-in was pasted", "begin again; the browser may say that nothing answers"
        )

    def _wait(self, until: float, typed: int | None) -> Fields | None:
        sources = [self._woken, *([] if typed is None else [typed])]
        ready, _, _ = select.select(sources, [], [], max(0.0, until - time.monotonic()))
        if self._woken in ready:
            if typed is not None:
                os.write(typed, b"\n")
            return self._answers.get()
        if typed is None or typed not in ready:
            raise Unreachable("nobody came back from the provider's pages", "sign in again")
        if not (line := os.read(typed, _LINE_MAX)):
            raise UsageError("no address of this sign-in was pasted", "the terminal was closed")
        fields = fields_of(line.decode(errors="replace").strip())
        return fields if self._is_ours(fields) else None

    def _is_ours(self, fields: Fields) -> bool:
        return hmac.compare_digest(fields.get("state", "").encode(), self._state.encode())

    def answered(self, fields: Fields) -> bool | None:
        """Called by a request's thread: takes the first answer that is ours, and says how the sign-in then ended."""
        with self._lock:
            if self._taken or not self._is_ours(fields):
                return None
            self._taken = True
        self._answers.put(fields)
        os.write(self._wake, b".")
        try:
            return self._verdict.get(timeout=_VERDICT_S)
        except queue.Empty:
            return False

    def page_written(self) -> None:
        self._written.set()


def fields_of(url: str) -> Fields:
    """The fields of an address's query; empty for one that is none, or that has a field twice."""
    try:
        pairs = parse_qsl(urlsplit(url).query, keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict")
    except ValueError:
        return {}
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else {}


def _handler(listener: Loopback) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _HANDLER_S
        server_version, sys_version = "jitctl", ""

        def do_GET(self) -> None:
            # another name for this address would be a page elsewhere that had its name lead here
            mine = self.path.partition("?")[0] == PATH and self.headers.get("host") == listener.host
            ended = listener.answered(fields_of(self.path)) if mine else None
            try:
                self._show(404 if not mine else 400 if ended is None else 200, ended)
            finally:
                if ended is not None:
                    listener.page_written()

        def _show(self, status: int, ended: bool | None) -> None:  # noqa: FBT001  # how it ended, if it did
            title, text = _FOREIGN if ended is None else _SIGNED_IN if ended else _FAILED
            page = _PAGE.format(title=title, text=text).encode()
            self.send_response(status)
            headers = {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Length": str(len(page)),
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
                "X-Content-Type-Options": "nosniff",
                "Connection": "close",
            }
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *words: object) -> None:
            """Says nothing: the address holds the code."""

    return Handler
