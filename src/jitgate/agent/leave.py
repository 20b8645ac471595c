"""A host leaves: all that joining put there goes, byte for byte, and sshd is as it was before."""

import shutil
from contextlib import suppress

from jitgate.agent import durable, exclusive, held, jit, obey, pam, pins
from jitgate.agent.place import Place, Say
from jitgate.agent.script import render
from jitgate.agent.sshd import Sshd
from jitgate.agent.trust import MAX_BYTES, HostTrust
from jitgate.ca.names import host_alias
from jitgate.core.errors import Error, NotFound
from jitgate.ssh.cert import parse_certificate_line
from jitgate.ssh.pubkey import parse_public_key_line


def leave(place: Place, say: Say) -> None:
    """Undoes it. `NotFound` when there is nothing, `Unsafe` when something was changed by others: nothing is lost."""
    try:
        told = pins.read(place.config)
        sshd = told.sshd
    except NotFound:
        told, sshd = None, place.sshd
    there = sshd.folder.exists() or sshd.drop_in.exists()
    if told is None and not there and not place.state.exists():
        raise NotFound("this host has not joined", "there is nothing to undo")
    if exclusive.undo(sshd, place.state):
        say("remove", str(exclusive.drop_in(sshd)))
    if jit.remove(sshd):
        say("remove", str(jit.drop_in(sshd)))
    if pam.remove():
        say("remove", f"our line in {pam.FILE}")
    if there:
        trust = None
        if told:
            with suppress(Error):
                trust = held.load(told, place.state).host_trust()
        obey.remove(render(trust or installed_trust(sshd)), sshd)
    obey.forget(sshd)
    place.config.unlink(missing_ok=True)
    shutil.rmtree(place.state, ignore_errors=True)
    if place.config.parent == pins.CONFIG.parent:
        with suppress(OSError):  # others' files may lie there
            place.config.parent.rmdir()
    say("left", "the agent has nothing to do any more: systemctl disable --now jitgate-agent")


def installed_trust(sshd: Sshd) -> HostTrust:
    """What is installed, as its own files say: where the state is lost, all that undoing it needs. `Error` if torn."""
    folder = sshd.folder
    lines = _text(sshd, "manifest").splitlines() or _text(sshd, "manifest.next").splitlines()
    said = dict(line.split(" ", 1) for line in lines if line.startswith(("realm ", "host ")))
    if said.keys() != {"realm", "host"}:
        raise NotFound(f"{folder} says nothing of what was installed", "by hand: docs/agent.md, Undo")
    certificate = parse_certificate_line(_text(sshd, "host-cert.pub").strip())
    return HostTrust(
        realm=said["realm"],
        host=said["host"],
        alias=host_alias(said["realm"], said["host"]),
        scopes=(f"host:{said['host']}",),
        logins=tuple(sorted(path.name for path in (folder / "principals").iterdir())),
        user_ca=tuple(parse_public_key_line(line)[0] for line in _text(sshd, "user_ca.pub").splitlines()),
        host_key=certificate.body.key,
        host_certificate=certificate,
    )


def _text(sshd: Sshd, name: str) -> str:
    return (durable.get(sshd.folder / name, MAX_BYTES) or b"").decode("ascii", "replace")
