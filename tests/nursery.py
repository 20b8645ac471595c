"""The process that forks services for tests (`tests/service.py`): one JSON line in, one number out."""

import contextlib
import gc
import json
import os
import signal
import socket
import sys
import traceback
from importlib import import_module

import psycopg as psycopg  # noqa: PLC0414  # so is this, which a service on SQLite does without
import sqlalchemy.dialects.postgresql.psycopg as _dialect  # noqa: F401

from jitgate.app.commands import serve as serve  # noqa: PLC0414  # imported here, once, with all that a service needs
from jitgate.app.main import run


def main() -> None:
    gc.freeze()  # shared with all that are forked: looking for garbage in it would copy it for each
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a developer's Ctrl-C is for pytest, which then closes our stdin
    for line in sys.stdin:
        told = json.loads(line)
        answer = start(**told) if "start" in told else os.waitpid(told["wait"], 0)[1]
        sys.stdout.write(f"{answer}\n")
        sys.stdout.flush()


def start(start: str, log: str, environment: dict[str, str]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.environ |= environment
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(descriptor, 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        sys.stdin = open(0)  # noqa: SIM115  # the parent's lines are not ours
        for name, value in json.loads(environment.get("TEST_CONSTANTS", "{}")).items():
            module, _, constant = name.rpartition(".")
            setattr(import_module(module), constant, value)
        status = run(["serve", "--config", start])
    except BaseException:  # noqa: BLE001  # shown where a test looks for it
        traceback.print_exc()
    finally:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as waiting, contextlib.suppress(OSError):
            waiting.sendto(b"ENDED=1", environment["NOTIFY_SOCKET"])  # for a test that waits for it to start
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    main()
