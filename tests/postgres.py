"""A real PostgreSQL for tests: one server a session, one database a test, made from a template.

It listens on a Unix socket and on a loopback port. It does not run as root: then it runs as `nobody`. What it holds is
thrown away, so it does not sync; `stop("immediate")` is as good as a crash.
"""

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

from jitgate.app.demo.daemon import free_port

START_S = 30.0
NOBODY = "nobody"  # when we are root; initdb wants a user that has a name
_count = iter(range(1, 1 << 40))


class Postgres:
    """A cluster of its own. `start` and `stop` as often as wanted; `close` removes it."""

    def __init__(self, initdb: Path, postgres: Path) -> None:
        self._postgres = postgres
        self.folder = Path(tempfile.mkdtemp(prefix="jitgate-pg-"))  # not pytest's: a socket's path is short
        self._data = self.folder / "data"
        self._data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            for path in (self.folder, self._data):
                shutil.chown(path, NOBODY)
        self.folder.chmod(0o755)
        self.port = free_port()
        options = [
            "--username=owner",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
            "--no-instructions",
        ]
        done = self._spawn([initdb, "-D", self._data, *options], subprocess.PIPE)
        said, _ = done.communicate()
        assert done.returncode == 0, said
        self._process: subprocess.Popen[str] | None = None

    def _spawn(self, command: list[Any], output: Any) -> "subprocess.Popen[str]":
        user: dict[str, Any] = (
            {"user": NOBODY, "group": pwd.getpwnam(NOBODY).pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
        )
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C", "TZ": "UTC"}
        return subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, text=True, cwd=self.folder, env=environment, **user
        )

    def start(self) -> None:
        assert self._process is None
        settings = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self.folder,
            "port": self.port,
            "fsync": "off",
            "full_page_writes": "off",
            "shared_buffers": "32MB",
            "max_connections": 200,
            "autovacuum": "off",
            "timezone": "GMT",
            "log_timezone": "GMT",
            "log_min_messages": "fatal",
        }
        command = [self._postgres, "-D", self._data, *(f"-c{name}={value}" for name, value in settings.items())]
        with (self.folder / "log").open("a") as log:
            self._process = self._spawn(command, log)
        until = time.monotonic() + START_S
        while True:
            try:
                self.run("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < until, (self.folder / "log").read_text()
                assert self._process.poll() is None, (self.folder / "log").read_text()
                time.sleep(0.02)
            else:
                return

    def stop(self, mode: str = "fast") -> None:
        """`fast`: orderly; `immediate`: as a crash."""
        if self._process is not None:
            self._process.send_signal({"fast": signal.SIGINT, "immediate": signal.SIGQUIT}[mode])
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.folder)

    def run(self, statement: str, database: str = "postgres") -> None:
        """As the cluster's owner, outside a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str, user: str = "owner", *, tcp: bool = False) -> str:
        if tcp:
            return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"
        return f"postgresql://{user}@/{database}?host={self.folder}&port={self.port}"

    @contextlib.contextmanager
    def database(self, template: str = "template0") -> Iterator[str]:
        """The URL of a new database; it is dropped at the end."""
        name = self.create(template)
        try:
            yield self.url(name)
        finally:
            if self._process is not None:
                self.drop(name)

    def create(self, template: str = "template0") -> str:
        """The name of a new database."""
        name = f"test_{next(_count)}"
        named, like = sql.Identifier(name), sql.Identifier(template)
        self.run(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(named, like).as_string())
        return name

    def drop(self, name: str) -> None:
        self.run(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)).as_string())
