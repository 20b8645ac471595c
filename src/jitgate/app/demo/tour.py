"""The main job as a tour: each command is run as it is printed, and what comes out is compared with what is claimed."""

import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from jitgate.app.demo.dex_tour import leave, look_into_registry, refuse_other_audience, sign_in_by_dex
from jitgate.app.demo.steps import DENIED, ENDED, STATE, expect_that, jitctl, jitgate, note, run, say, show
from jitgate.app.demo.world import World
from jitgate.ssh.cert import CertificateBody, parse_certificate_line

SSH_FAILED = 255
TRIES_S = 15


def tour(world: World) -> None:
    """Walk through the main job. Raises `StepFailed` at the first claim that does not hold."""
    if world.peers:
        sign_in_by_dex(world, world.peers)
        refuse_other_audience(world, world.peers)
    else:
        _sign_in(world)
    _connect(world)
    if world.peers:
        look_into_registry(world, world.peers)
    _refused(world)
    _ends_with_its_grant(world)
    _stolen_token(world)
    _revoke(world)
    if world.peers:
        leave(world, world.peers)
    _log(world)
    _altered(world)


def _sign_in(world: World) -> None:
    say("alice signs in with password and one-time code; her key is made here and bound in the same act")
    alice = world.people["alice"]
    password = alice.home / "password"
    password.touch(0o600)
    password.write_text(alice.password.reveal())
    login = ["login", world.url, "--user", "alice", "--password-file", str(password), "--code", alice.code()]
    jitctl(world, alice.home, login, shown=["login", world.url, "--user", "alice"])


def _connect(world: World) -> None:
    say("she connects: policy decides, a certificate for 15 minutes is signed, the gateway carries ssh to a stock sshd")
    home = world.people["alice"].home
    jitctl(world, home, ["vm", "ls"], expect="web1")
    command = ["vm", "connect", "ubuntu@web1", "--reason", "disk full, OPS-12", "--", "echo I am $USER on $LOCAL_HOST"]
    jitctl(world, home, command, expect="I am ubuntu on web1")
    jitctl(world, home, ["cert", "show"], expect="ubuntu on web1")
    say("and by plain ssh, without jitctl's help: scp, git, Ansible and editors go the same way")
    plain = [
        "ssh",
        "-F",
        ".ssh/config",
        "ubuntu@web1",
    ]  # ssh looks for ~/.ssh in the password file's home, not this one
    show(world, home, [*plain, "echo hello from $LOCAL_HOST"], expect="hello from web1")


def _refused(world: World) -> None:
    say("db1 is for others: refused, with every reason")
    home = world.people["alice"].home
    jitctl(world, home, ["vm", "connect", "db1", "--reason", "curious", "--", "true"], status=DENIED)
    jitctl(world, home, ["explain", "db1"], expect="group")


def _ends_with_its_grant(world: World) -> None:
    say("a grant of six seconds: its session ends with it, to the second, at the gateway; its certificate at the host")
    home = world.people["alice"].home
    certificate = home / "glimpse-cert.pub"
    jitctl(world, home, ["cert", "get", "deploy@web1", "-o", certificate.name])
    jitctl(
        world, home, ["vm", "connect", "deploy@web1", "--", "echo inside; sleep 60"], status=SSH_FAILED, expect="inside"
    )
    jitctl(
        world,
        world.people["bob"].home,
        ["audit", "--type", "session.ended", "--host", "web1"],
        expect="its time was up",
    )
    grant = _grant_of(certificate)
    host = world.hosts["web1"]
    before = len(host.log_text())
    _wait_for_end(certificate)
    ssh = ["ssh", "-F", _write_ssh_config(world, home, certificate, "deploy").name, "web1"]
    show(world, home, [*ssh, "echo inside"], status=SSH_FAILED, expect="Permission denied")
    reason = next((line for line in host.log_text()[before:].splitlines() if "expired" in line), "")
    expect_that("expired" in reason, "sshd did not say that the certificate expired")
    note(f"sshd on web1 says: {reason}")
    jitctl(world, home, ["cert", "get", "deploy@web1", "--grant", grant], status=ENDED)


def _stolen_token(world: World) -> None:
    say("mallory has stolen alice's session token, but not her key")
    alice, mallory = world.people["alice"].home, world.folder / "people" / "mallory"
    shutil.copytree(alice, mallory, ignore=shutil.ignore_patterns("id", "id.pub", "certs", "password"))
    key = mallory / STATE / "id"
    run(world, mallory, ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "mallory", "-f", str(key)])
    command = ["vm", "connect", "ubuntu@web1", "--reason", "mine now", "--", "true"]
    jitctl(world, mallory, command, status=DENIED, expect="not registered")
    jitctl(world, mallory, ["keys", "add", str(key.relative_to(mallory))], status=DENIED, expect="not registered")


def _revoke(world: World) -> None:
    say("and where the key is stolen too: bob takes her certificate back, both hosts know at once, and sshd refuses it")
    alice, bob = world.people["alice"].home, world.people["bob"].home
    certificate = alice / "stolen-cert.pub"
    jitctl(world, alice, ["cert", "get", "ubuntu@web1", "-o", certificate.name])
    ssh = ["ssh", "-F", _write_ssh_config(world, alice, certificate, "ubuntu").name, "web1"]
    show(world, alice, [*ssh, "echo inside"], expect="inside")
    serial = str(_body(certificate).serial)
    jitctl(world, bob, ["revoke", "certificate", serial, "--reason", "laptop stolen"], expect="revoked on 2/2 hosts")
    host = world.hosts["web1"]
    before = len(host.log_text())
    show(world, alice, [*ssh, "echo inside"], status=SSH_FAILED, expect="Permission denied")
    reason = next((line for line in host.log_text()[before:].splitlines() if "revoked" in line), "")
    expect_that("revoked" in reason, "sshd did not say that the certificate is revoked")
    note(f"sshd on web1 says: {reason}")


def _log(world: World) -> None:
    say("every step is on the record: sshd's own log line leads to the entry, and the log can be verified")
    accepted = [line for line in world.hosts["web1"].log_text().splitlines() if "Accepted publickey for ubuntu" in line]
    expect_that(bool(accepted), "sshd logged no login")
    note(f"sshd on web1 says: {accepted[0]}")
    serial = accepted[0].partition("(serial ")[2].partition(")")[0]
    bob = world.people["bob"].home
    jitctl(world, bob, ["audit", "--serial", serial], expect="certificate.issued")
    jitctl(world, bob, ["audit", "--outcome", "refused"], expect="grant.refused")
    _wait_for_checkpoint(world)
    jitgate(world, ["audit", "verify", "--checkpoint", _checkpoint(world).name], expect="the log is whole")


def _altered(world: World) -> None:
    say("somebody edits one entry in a copy of the log, to blame bob for alice's refusal")
    copy = world.folder / "altered.db"
    database = world.settings.state / "jitgate.db"
    with closing(sqlite3.connect(database)) as original, closing(sqlite3.connect(copy)) as altered, altered:
        original.backup(altered)
        alice, bob = (
            altered.execute("SELECT id FROM person WHERE name = ?", (name,)).fetchone()[0] for name in ("alice", "bob")
        )
        altered.execute(
            'UPDATE event SET leaf = CAST(replace(CAST(leaf AS TEXT), ?, ?) AS BLOB), person = ? WHERE "index" = '
            "(SELECT min(\"index\") FROM event WHERE type = 'grant.refused')",
            (alice, bob, bob),
        )
    copy.chmod(0o600)
    command = ["audit", "verify", "--checkpoint", _checkpoint(world).name, "--database", f"sqlite:///{copy.name}"]
    jitgate(world, command, status=1, expect="NOT WHOLE")


def _write_ssh_config(world: World, home: Path, certificate: Path, login: str) -> Path:
    """Stock ssh with that certificate and nothing else."""
    state, host = home / STATE, world.hosts["web1"]
    options = {
        "HostName": host.address,
        "Port": host.port,
        "User": login,
        "HostKeyAlias": "web1.default.jitgate",
        "UserKnownHostsFile": state / "known_hosts",
        "IdentityFile": state / "id",
        "CertificateFile": certificate,
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "BatchMode": "yes",
    }
    path = certificate.with_suffix(".config")
    path.write_text("Host web1\n" + "".join(f"  {name} {value}\n" for name, value in options.items()))
    return path


def _body(certificate: Path) -> CertificateBody:
    return parse_certificate_line(certificate.read_text()).body


def _grant_of(certificate: Path) -> str:
    return _body(certificate).key_id.partition("grant=")[2].partition(" ")[0]


def _wait_for_end(certificate: Path) -> None:
    left = _body(certificate).valid_before - time.time() + 1
    note(f"waiting {max(0, left):.0f} s for the grant to end")
    time.sleep(max(0, left))


def _wait_for_checkpoint(world: World) -> None:
    """The service signs the log every second; wait until what has happened so far is covered."""
    with closing(sqlite3.connect(world.settings.state / "jitgate.db")) as database:
        (size,) = database.execute('SELECT max("index") + 1 FROM event').fetchone()
        until = time.monotonic() + TRIES_S
        while True:
            covered, text = database.execute("SELECT size, text FROM checkpoint ORDER BY size DESC LIMIT 1").fetchone()
            if covered >= size:
                _checkpoint(world).write_text(text)
                return
            expect_that(time.monotonic() < until, "no checkpoint covers the log")
            time.sleep(0.1)


def _checkpoint(world: World) -> Path:
    return world.folder / "checkpoint.txt"
