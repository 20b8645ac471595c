"""The main job of an agent with everything real: the service, its signer, a host that joins by one command, stock ssh.

What is revoked at the service is refused by sshd, and the service knows that it is.
"""

import shutil
import subprocess
import time
from collections.abc import Callable
from typing import Any

from tests import tunnel
from tests.client import Connection
from tests.interop.agents import agent, join_with, leave, running, status, until, where
from tests.interop.trusting import let_in_by_key, opens, tree
from tests.service import Service

from jitgate.app.local_sshd import LocalHost
from jitgate.ssh.private import dump_private_key, generate_ed25519
from jitgate.ssh.pubkey import parse_public_key_line

OWNER = generate_ed25519()
Start = Callable[..., LocalHost]


def token_for(olga: Connection, host: LocalHost, **more: Any) -> str:
    said = {"name": host.name, "logins": ["ubuntu"], "address": host.address, "port": host.port}
    answer = olga.post("/v1/hosts/tokens", {**said, "labels": {"tier": "web"}, **more})
    assert answer.status == 201, answer
    return str(answer.json["token"])


def joined(olga: Connection, host: LocalHost) -> None:
    done = join_with(host, token_for(olga, host))
    assert done.returncode == 0, done.stdout + done.stderr


def known(olga: Connection, name: str) -> dict[str, Any]:
    hosts = olga.get("/v1/hosts/agents").json["hosts"]
    found: dict[str, Any] = next(each for each in hosts if each["name"] == name)
    return found


def host_ca(olga: Connection) -> str:
    return str(olga.get("/.well-known/jitgate").json["realms"][0]["host_ca"][0])


def ssh(host: LocalHost, olga: Connection, certificate: str, ca: str) -> bool:
    """A login by stock ssh with the person's key and this certificate; the host is known by its CA alone."""
    folder = host.etc.parent / "person"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    (folder / "id").write_bytes(dump_private_key(olga.signer.key).reveal())
    (folder / "id").chmod(0o600)
    (folder / "id-cert.pub").write_text(certificate + "\n")
    (folder / "known").write_text(f"@cert-authority *.default.jitgate {ca}\n")
    options = {
        "BatchMode": "yes",
        "IdentitiesOnly": "yes",
        "IdentityAgent": "none",
        "HostKeyAlias": f"{host.name}.default.jitgate",
        "UserKnownHostsFile": str(folder / "known"),
        "GlobalKnownHostsFile": "none",
        "StrictHostKeyChecking": "yes",
        "LogLevel": "ERROR",
    }
    given = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    command = [
        "ssh",
        "-F",
        "none",
        *given,
        "-i",
        str(folder / "id"),
        "-p",
        str(host.port),
        f"ubuntu@{host.address}",
        "true",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert done.returncode == 0 or "Permission denied (publickey" in done.stderr, done.stderr
    return done.returncode == 0


def test_a_revocation_reaches_the_host_that_joined(gate: Service, start_sshd: Start, olga: Connection):
    host = start_sshd("web1", "ubuntu")
    let_in_by_key(host, "ubuntu", OWNER)
    before = tree(host.etc)
    joined(olga, host)
    ca = host_ca(olga)
    one = tunnel.certified(olga, tunnel.granted(olga, "web1"), "web1")
    rick = tunnel.enter(gate, "rick", "engineers")
    two = tunnel.certified(rick, tunnel.granted(rick, "web1"), "web1")
    with running(host):
        until(lambda: status(host)["connected"])
        until(lambda: known(olga, "web1")["agent"] and known(olga, "web1")["agent"]["current"])
        assert ssh(host, olga, one["certificate"], ca)
        began = time.monotonic()
        answer = olga.post("/v1/revocations", {"what": "certificate", "subject": one["serial"], "reason": "test"})
        assert answer.status == 201, answer
        path = f"/v1/revocations/{answer.json['revocation']['id']}"
        until(lambda: not ssh(host, olga, one["certificate"], ca))
        assert time.monotonic() - began < 20
        until(lambda: known(olga, "web1")["agent"]["current"])
        assert olga.get(path).status == 200
        assert ssh(host, rick, two["certificate"], ca)
        assert opens(host, "ubuntu", key=OWNER)
        assert known(olga, "web1")["agent"]["problems"] == []
    rick.close()
    assert leave(host).returncode == 0
    assert tree(host.etc) == before


def test_a_host_that_is_there_already_waits_for_the_owner(start_sshd: Start, olga: Connection):
    host, other = start_sshd("web2", "ubuntu"), start_sshd("other", "ubuntu")
    token = token_for(olga, host)
    assert join_with(host, token).returncode == 0
    done = join_with(other, token)
    assert (done.returncode, "jitctl hosts approve web2" in done.stderr) == (5, True)
    assert not (other.etc / "jitgate").exists()
    waiting = next(each for each in olga.get("/v1/hosts/agents").json["waiting"] if each["name"] == "web2")
    answer = olga.post("/v1/hosts/web2/approve", {"fingerprint": waiting["fingerprint"]})
    assert answer.status == 200, answer
    done = join_with(other, token)
    assert done.returncode == 0, done.stderr
    with running(host):
        until(lambda: "the service refuses this host" in (host.etc.parent / "agent.log").read_text())


def test_a_known_host_joins_by_its_key_and_the_owners_word(gate: Service, start_sshd: Start, olga: Connection):
    host, other = start_sshd("web4", "ubuntu"), start_sshd("other", "ubuntu")
    gate.act(
        "host add",
        name="web4",
        address=host.address,
        port=host.port,
        logins=["ubuntu"],
        labels={"tier": "web"},
        host_key=host.host_key,
    )
    root = parse_public_key_line(olga.get("/.well-known/jitgate").json["root"])[0].fingerprint
    given = [gate.login_url, "--name", "web4", "--root", root]
    done = agent(other, "join", *given, *where(other))
    assert (done.returncode, (other.etc / "jitgate").exists()) == (4, False), done.stderr
    done = agent(host, "join", *given, *where(host))
    assert (done.returncode, "jitctl hosts approve web4" in done.stderr) == (5, True)
    fingerprint = parse_public_key_line(host.host_key)[0].fingerprint
    assert olga.post("/v1/hosts/web4/approve", {"fingerprint": fingerprint}).status == 200
    wrong = agent(host, "join", *given[:-1], generate_ed25519().public.fingerprint, *where(host))
    assert (wrong.returncode, "the token names" in wrong.stderr) == (1, True)
    assert agent(host, "join", *given, *where(host)).returncode == 5  # the owner's word is good for once
    assert olga.post("/v1/hosts/web4/approve", {"fingerprint": fingerprint}).status == 200
    done = agent(host, "join", *given, *where(host))
    assert done.returncode == 0, done.stdout + done.stderr
    certificate = tunnel.certified(olga, tunnel.granted(olga, "web4"), "web4")["certificate"]
    assert ssh(host, olga, certificate, host_ca(olga))


def test_a_host_that_was_removed_joins_again_by_a_new_token(start_sshd: Start, olga: Connection):
    host = start_sshd("web5", "ubuntu")
    joined(olga, host)
    assert olga.delete("/v1/hosts/web5").status == 204
    joined(olga, host)
    with running(host):
        until(lambda: status(host)["connected"])
        until(lambda: known(olga, "web5")["agent"] and known(olga, "web5")["agent"]["current"])


def test_a_host_that_was_removed_is_refused_and_told(start_sshd: Start, olga: Connection):
    host = start_sshd("web3", "ubuntu")
    joined(olga, host)
    with running(host):
        until(lambda: status(host)["connected"])
        assert olga.delete("/v1/hosts/web3").status == 204
        until(lambda: "the service refuses this host" in (host.etc.parent / "agent.log").read_text())
    assert agent(host, "status").returncode == 1
