"""Brings a host to what it holds: sshd's settings by the one script, the revocation list by itself.

The script does all that changes sshd's configuration (trust.sh): reads first, adds only, proves, undoes. Only the
revocation list is replaced without it, for it changes often and sshd reads it at each login.
"""

import subprocess
from collections.abc import Sequence

from jitgate.agent import durable, revoked
from jitgate.agent.held import Held
from jitgate.agent.script import render, run, run_quietly
from jitgate.agent.sshd import Sshd
from jitgate.core.errors import Error, Unsafe
from jitgate.core.text import shown
from jitgate.ssh.krl import MAX_KRL


def put_revoked(held: Held) -> bool:
    """Puts the merged list into place; whether that changed it.

    What stands there and is newer stays: after a crash, or with a state folder that was put back from a copy, it may
    know more than we. Errors of another's list are raised after ours was put with what was merged of it before.
    """
    sshd, trouble = held.pins.sshd, None
    before = revoked.installed(sshd)
    if before and (held.version is None or (before.key == held.online and before.version > held.version)):
        return False
    own = held.krl if held.krl is not None else revoked.EMPTY
    others: list[bytes] = []
    for path in revoked.other_lists(sshd.settings()):
        copy = held.state / "other-krl"
        try:
            others.append(revoked.read_other(path))
            if durable.get(copy, MAX_KRL) != others[-1]:
                durable.put(copy, others[-1], durable.PRIVATE)
        except Error as error:
            trouble = error
            others += [kept] if (kept := durable.get(copy, MAX_KRL)) else []
    changed = revoked.install(sshd, revoked.merged(own, held.online, held.version, others))
    if trouble:
        raise trouble
    return changed


def install(held: Held, *, words: bool = False) -> None:
    """Runs the script for what is held. `Error` with its words when it refuses: then all is as it was.

    `words`: the script speaks on stdout and stderr by itself.
    """
    sshd = held.pins.sshd
    script, options = render(held.host_trust()), ["--beside", *sshd.options(), *_first_list(held)]
    if words:
        if run(script, options) != 0:
            raise Unsafe("sshd was not changed, or put back as it was", "the reason stands above", code="install")
        return
    check(run_quietly(script, options))


def check(done: "subprocess.CompletedProcess[str]") -> None:
    if done.returncode != 0:
        said = [line.removeprefix("jitgate: error: ") for line in done.stderr.splitlines() if "hint:" not in line]
        raise Unsafe(shown("; ".join(said), 250)[1:-1] or "the script ended without a word", code="install")


def _first_list(held: Held) -> Sequence[str]:
    """The list for a host that has none yet, and whose list is in it."""
    sshd = held.pins.sshd
    others = revoked.other_lists(sshd.settings())
    own = held.krl if held.krl is not None else revoked.EMPTY
    data = revoked.merged(own, held.online, held.version, [revoked.read_other(path) for path in others])
    file = held.state / "first-krl"
    durable.put(file, data, durable.PUBLIC)
    return ["--krl", str(file), *(part for path in others for part in ("--merged", str(path)))]


def remove(script: str, sshd: Sshd, *, words: bool = True) -> None:
    """Undoes it, byte for byte. `Unsafe` with the script's words when something of it was changed by others."""
    options = ["--remove", *sshd.options()]
    if words:
        if run(script, options) != 0:
            raise Unsafe("not everything could be undone", "the reason stands above", code="install")
    else:
        check(run_quietly(script, options))
    forget(sshd)


def forget(sshd: Sshd) -> None:
    """What a kill may have left beside our folder."""
    revoked.waiting(sshd).unlink(missing_ok=True)


def is_revoked_in_place(held: Held) -> bool:
    """Whether the list that sshd reads holds what the bundle revokes."""
    found = revoked.installed(held.pins.sshd)
    return found is not None and held.version is not None and (found.key, found.version) == (held.online, held.version)
