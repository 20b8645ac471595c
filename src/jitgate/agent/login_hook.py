"""Run by pam_exec for each login, as root, by `python -I -S`: nothing but the standard library.

    session optional pam_exec.so quiet type=open_session PYTHON -I -S login-hook.py FOLDER

It writes down what sshd told PAM, in a folder that only root can write, wakes the agent, and ends: a login is never
held up for longer than `PATIENCE_S`, and never refused by this. The line stands first in /etc/pam.d/sshd, before
pam_env, which may read variables from a file of the user's.
"""

import contextlib
import json
import os
import socket
import sys
import time

PATIENCE_S = 2.0
TEXT_MAX = 1 << 15
NAMES = ("PAM_TYPE", "PAM_SERVICE", "PAM_USER", "SSH_AUTH_INFO_0")
SOCKET = "wake"


def main() -> None:
    folder = sys.argv[1]
    parent = os.getppid()
    with open(f"/proc/{parent}/stat") as file:  # noqa: PTH123  # no pathlib: it takes longer to load than this takes
        started = int(file.read().rpartition(")")[2].split()[19])
    said: dict[str, object] = {name: os.environ.get(name, "")[:TEXT_MAX] for name in NAMES}
    said |= {"pid": parent, "started": started, "at": time.time_ns() // 1000}
    name = f"{folder}/{parent}-{started}-{time.monotonic_ns()}"
    file_number = os.open(f"{name}.new", os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file_number, "w") as file:
        json.dump(said, file)
    os.rename(f"{name}.new", f"{name}.json")  # noqa: PTH104
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(PATIENCE_S)
        agent.connect(f"{folder}/{SOCKET}")
        agent.recv(1)


if __name__ == "__main__":
    with contextlib.suppress(Exception):
        main()
