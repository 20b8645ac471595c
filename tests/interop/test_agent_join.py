"""`jitgate agent join` and `leave` on a real sshd: what is proved, what is believed, and that it can be undone."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.enroller import Enroller, seal
from tests.interop.agents import agent, join, leave, log_of, running, state_of, where
from tests.interop.trusting import let_in_by_key, opens, tree
from tests.unit.agent.trusts import HOST_CA, USER_CA, certify

from jitgate.app.local_sshd import LocalHost
from jitgate.ca.trust import DOMAIN, trust_payload
from jitgate.core.secret import Secret
from jitgate.hosts.joining import read_token, write_token
from jitgate.ssh.cert import CertType
from jitgate.ssh.private import SoftwareKey, generate_ed25519

OWNER = generate_ed25519()


@pytest.fixture
def host(start_sshd: Callable[..., LocalHost]) -> LocalHost:
    host = start_sshd("web1", "ubuntu", "deploy")
    let_in_by_key(host, "ubuntu", OWNER)
    return host


@pytest.fixture
def service(host: LocalHost) -> Iterator[Enroller]:
    with Enroller(host.etc.parent, "web1", ("ubuntu", "deploy")) as service:
        yield service


def test_a_host_joins_and_leaves_byte_for_byte(host: LocalHost, service: Enroller):
    before = tree(host.etc)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "probe    the sshd that listens shows the new host certificate" in done.stdout
    assert service.secret.reveal() not in done.stdout + done.stderr
    assert opens(host, "ubuntu", "ubuntu@host:web1")
    assert opens(host, "ubuntu", key=OWNER)
    assert not opens(host, "ubuntu", "deploy@host:web1")
    done = leave(host)
    assert done.returncode == 0, done.stdout + done.stderr
    assert tree(host.etc) == before
    assert not state_of(host).exists()
    assert opens(host, "ubuntu", key=OWNER)
    assert not opens(host, "ubuntu", "ubuntu@host:web1", by_key=True)
    assert agent(host, "leave").returncode == 6


def test_a_second_run_asks_nothing_and_changes_nothing(host: LocalHost, service: Enroller):
    assert join(host, service).returncode == 0
    before = tree(host.etc.parent)
    done = join(host, service)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "nothing to do" in done.stdout
    assert service.joins == 1
    assert {n: t for n, t in tree(host.etc).items()} == {  # noqa: C416  # names without their folder
        n.removeprefix("etc/"): t for n, t in before.items() if n.startswith("etc/")
    }


def refused(host: LocalHost, service: Enroller, reason: str, *arguments: str, status: int = 1) -> None:
    """Nothing of sshd's folder changed, and the words say why."""
    before = tree(host.etc)
    done = join(host, service, *arguments)
    assert done.returncode == status, done.stdout + done.stderr
    assert reason in done.stdout + done.stderr
    assert tree(host.etc) == before
    assert opens(host, "ubuntu", key=OWNER)


def test_a_token_that_is_not_known_joins_nothing(host: LocalHost, service: Enroller):
    token, service.secret = service.token(), Secret("0" * 64)
    done = agent(host, "join", *where(host), stdin=token)
    assert (done.returncode, "the token is not known" in done.stderr) == (4, True)
    assert not (host.etc / "jitgate").exists()


@pytest.mark.parametrize("text", ["", "jgj_", "jgj_e30", "x" * 5000])
def test_what_is_no_token_is_not_repeated(host: LocalHost, text: str):
    done = agent(host, "join", *where(host), stdin=text + "\n")
    assert (done.returncode, "this is no join token" in done.stderr) == (1, True)
    assert not text or text not in done.stderr


def test_a_tokens_file_is_its_readers_alone(host: LocalHost, service: Enroller):
    file = host.etc.parent / "token"
    file.write_text(service.token())
    file.chmod(0o644)
    refused(host, service, "others can read", "--token-file", str(file))
    file.chmod(0o600)
    assert join(host, service, "--token-file", str(file)).returncode == 0


def test_the_url_has_to_be_the_tokens(host: LocalHost, service: Enroller):
    refused(host, service, "the token is for https://127.0.0.1", "https://other.example")


def test_a_host_that_cannot_join_does_not_use_the_token(host: LocalHost, service: Enroller):
    text = host.config.read_text()
    host.config.write_text(text.replace("Include ", "# Include "))
    refused(host, service, "does not include")
    assert service.joins == 0
    host.config.write_text(text)
    assert join(host, service).returncode == 0


def test_another_tls_authority_gets_nothing(host: LocalHost, service: Enroller):
    """Somebody in between, with a certificate for the right name by an authority of their own."""
    with Enroller(host.etc.parent / "other", "web1", ("ubuntu",)) as other:
        pinned = read_token(service.token())
        token = write_token(replace(pinned, url=other.settings.url)).reveal()
        done = agent(host, "join", *where(host), stdin=token)
        assert (done.returncode, "is not the one that was pinned" in done.stderr) == (1, True)
        assert other.joins == 0
    assert not (host.etc / "jitgate").exists()


STRANGER = generate_ed25519()


def forged(field: str, value: object) -> Callable[[Enroller, dict[str, Any]], None]:
    return lambda _, answer: answer.update({field: value})


def certified(
    *names: str, ca: SoftwareKey = HOST_CA, kind: CertType = CertType.HOST, lasts: int = 3600
) -> Callable[[Enroller, dict[str, Any]], None]:
    def act(service: Enroller, answer: dict[str, Any]) -> None:
        assert service.host_key
        answer["certificate"] = certify(ca, kind, service.host_key, names or ("web1",), lasts=lasts).line()

    return act


def signed_by_another(service: Enroller, answer: dict[str, Any]) -> None:
    answer["trust"] = seal(DOMAIN, trust_payload(replace(service.trust, user=(STRANGER.public,))), STRANGER).json()


def another_root(service: Enroller, answer: dict[str, Any]) -> None:
    signed_by_another(service, answer)
    answer["root"] = STRANGER.public.line()


def host_called(name: str, value: object) -> Callable[[Enroller, dict[str, Any]], None]:
    return lambda _, answer: answer["host"].update({name: value})


@pytest.mark.parametrize(
    ("forge", "reason"),
    [
        (another_root, "the token names"),
        (signed_by_another, "signed by the key"),
        (certified("web2"), "names more than this host"),
        (certified(ca=STRANGER), "a key that the trust list does not name"),
        (certified(ca=USER_CA), "a key that the trust list does not name"),
        (certified("ubuntu@host:web1", kind=CertType.USER), "not a host certificate"),
        (certified(lasts=-1), "not good now"),
        (forged("krl", "AAAA"), "not the one that the bundle names"),
        (forged("gateways", [{"address": "a b", "port": 22, "server_name": "x"}]), "not a gateway's address"),
        (forged("gateways", []), "gateways is missing"),
        (host_called("name", "web2"), "another host than the token's"),
        (host_called("logins", ["ubuntu\nroot"]), "not a login name"),
        (host_called("logins", []), "no login"),
    ],
)
def test_a_service_that_lies_is_not_believed(
    host: LocalHost, service: Enroller, forge: Callable[[Enroller, dict[str, Any]], None], reason: str
):
    service.forge = partial(forge, service)
    refused(host, service, reason)


def test_who_is_known_already_waits_for_the_owner(host: LocalHost, service: Enroller):
    service.pending = True
    refused(host, service, "jitctl hosts approve web1", status=5)
    service.pending = False
    assert join(host, service).returncode == 0


def test_a_machine_shows_its_own_token_of_a_provider(host: LocalHost, service: Enroller):
    """The join token's secret does not leave the host then; the host key signs over the ID token."""
    file = host.etc.parent / "id-token"
    file.write_text("header.claims.signature\n")
    given = ["--provider", "corp", "--id-token-file", str(file)]
    file.chmod(0o644)
    refused(host, service, "others can read", *given)
    file.chmod(0o600)
    assert join(host, service, "--provider", "corp").returncode == 2
    done = join(host, service, *given)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "header.claims" not in done.stdout + done.stderr
    assert "nothing is asked of the service" in join(host, service, *given).stdout


def test_a_host_that_has_joined_joins_no_other(host: LocalHost, service: Enroller):
    assert join(host, service).returncode == 0
    service.host = "web2"
    refused(host, service, "this host has joined as web1 of realm default already")


def test_an_sshd_that_does_not_show_it_is_put_back(host: LocalHost, service: Enroller):
    """The files are right, but what listens has not read them: a reload that reloads nothing."""
    before = tree(host.etc)
    hasty = "from jitgate.agent import join; join._PROBE_S = 1.0; from jitgate.app.main import main; main()"
    command = [
        sys.executable,
        "-c",
        hasty,
        "agent",
        "join",
        "--state",
        str(state_of(host)),
        *where(host, reload="true"),
    ]
    done = subprocess.run(command, input=service.token(), capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "put back, because the sshd that listens does not show the new host certificate" in done.stderr
    assert tree(host.etc) == before
    assert opens(host, "ubuntu", key=OWNER)


def test_where_it_cannot_be_proved_it_is_put_back(host: LocalHost, service: Enroller):
    programs = host.etc.parent / "bin"
    programs.mkdir()
    for folder in map(Path, os.environ["PATH"].split(":")):
        for program in folder.iterdir() if folder.is_dir() else ():
            if program.name != "ssh-keyscan" and not (programs / program.name).is_symlink():
                (programs / program.name).symlink_to(program)
    before = tree(host.etc)
    done = join(host, service, environment={"PATH": str(programs)})
    assert done.returncode == 1
    assert "put back, because ssh-keyscan does not run: No such file or directory" in done.stderr
    assert tree(host.etc) == before
    assert join(host, service).returncode == 0


KILLED = """\
import os, signal, sys
from jitgate.agent import durable
left = int(sys.argv.pop(1))
real, sync = durable._write, durable.sync_folder
def at():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
def write(*a): real(*a); at()
def synced(*a): at(); sync(*a)
durable._write, durable.sync_folder = write, synced
from jitgate.app.main import main
main()
"""


@pytest.mark.parametrize("first", [1, 2, 3, 4])
def test_killed_at_each_write_nobody_is_locked_out_and_the_next_run_goes_on(
    host: LocalHost, service: Enroller, first: int
):
    """What the script does is cut off in its own tests; this is what is written before and after it."""
    before = tree(host.etc)
    for at in range(first, 100, 4):
        command = [sys.executable, "-c", KILLED, str(at), "agent", "join", "--state", str(state_of(host)), *where(host)]
        done = subprocess.run(command, input=service.token(), capture_output=True, text=True, check=False)
        assert host.run_sshd("-t").returncode == 0
        assert opens(host, "ubuntu", key=OWNER)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr
        if first % 2:
            assert join(host, service).returncode == 0
            assert opens(host, "ubuntu", "ubuntu@host:web1")
        assert leave(host).returncode in (0, 6)
        assert tree(host.etc) == before
    assert at > 14


def test_a_host_that_lost_its_state_leaves_all_the_same(host: LocalHost, service: Enroller):
    before = tree(host.etc)
    assert join(host, service).returncode == 0
    shutil.rmtree(state_of(host))
    done = leave(host)
    assert done.returncode == 0, done.stderr
    assert tree(host.etc) == before


def test_leaving_keeps_what_somebody_else_changed(host: LocalHost, service: Enroller):
    assert join(host, service).returncode == 0
    (host.etc / "jitgate/user_ca.pub").write_text(STRANGER.public.line() + "\n")
    done = leave(host)
    assert (done.returncode, "not as jitgate made it" in done.stderr) == (1, True)
    assert state_of(host).exists()


def test_an_agent_that_runs_stops_when_its_host_leaves(host: LocalHost, service: Enroller):
    """And puts nothing back, whatever it is told meanwhile; with other settings it stops to be started with them."""
    before = tree(host.etc)
    assert join(host, service).returncode == 0
    with running(host, service) as process:
        assert leave(host).returncode == 0
        service.list_keys(STRANGER.public)
        service.revoke(7)
        assert process.wait(30) == 0
        assert tree(host.etc) == before
    service.wait(lambda: service.connected() == 0)
    service.secret = Secret("1" * 64)
    assert join(host, service).returncode == 0
    with running(host, service) as process:
        (state_of(host) / "agent.toml").touch()
        assert process.wait(30) == 0
        assert "changed or went" in log_of(host)
