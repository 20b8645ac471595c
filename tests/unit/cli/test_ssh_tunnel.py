"""Where the service has a gateway: the ticket beside the certificate, an ssh config that leads through the tunnel."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.gateways import TICKET, FakeGateway
from tests.unit.cli.conftest import SOURCE, Machine
from tests.unit.cli.fake_service import CODE, GRANT, PASSWORD, FakeService, Json, in_minutes
from tests.unit.cli.test_ssh_config import CONNECT, ssh_sees

from jitgate.cli import asked_by, sshconfig

pytestmark = pytest.mark.enable_socket  # a service and a gateway on loopback, made for these tests

WEB1 = "certs/web1.default.jitgate"


def open_gateway(service: FakeService, gateway: FakeGateway, **changes: object) -> None:
    """From now on the service speaks of it, and gives tickets."""
    at: Json = {"address": "127.0.0.1", "port": gateway.port, "server_name": "127.0.0.1"}
    at |= {"keep_tls": gateway.keep_tls} | changes
    ticket = {"ticket": TICKET, "expires_at": in_minutes(15)}
    about, certificate = service._about, service.certificate
    service.instead["GET /.well-known/jitgate"] = lambda asked: (200, about(asked)[1] | {"gateway": at})  # type: ignore[operator]  # a document
    service.instead["POST /v1/certificates"] = lambda _: (
        201,
        {"certificate": certificate(service.keys[0]).line(), "tunnel": ticket | at},
    )


@pytest.fixture
def gateway(tmp_path: Path, service: FakeService) -> Iterator[FakeGateway]:
    started = FakeGateway(tmp_path / "gateway", ("127.0.0.1", 1))
    open_gateway(service, started)
    yield started
    started.stop()


def requests(service: FakeService) -> list[str]:
    return [request[1] for request in service.requests]


def test_plain_ssh_goes_through_the_gateway(alice: Machine, gateway: FakeGateway):
    assert alice.jitctl(*CONNECT)[0] == 0
    ticket = alice.state / WEB1 / "ubuntu.ticket"
    assert ticket.stat().st_mode & 0o777 == 0o600
    assert json.loads(ticket.read_text()) == {
        "ticket": TICKET,
        "host": "web1",
        "address": "127.0.0.1",
        "port": gateway.port,
        "server_name": "127.0.0.1",
        "keep_tls": False,
        "ca_file": "",
    }
    seen = ssh_sees(alice, "web1")
    assert seen["proxycommand"][0].endswith(f"/ssh_proxy' '{ticket}'")
    assert " -I -S " in seen["proxycommand"][0]
    assert TICKET not in seen["proxycommand"][0]
    assert seen["proxyusefdpass"] == ["yes"]
    assert seen["hostkeyalias"] == ["web1.default.jitgate"]
    other = ssh_sees(alice, "-l", "root", "web1")
    assert other["proxycommand"][0].endswith("/ssh_proxy' '--no-login' 'web1' 'ubuntu'")


def test_where_tls_stays_on_there_is_nothing_to_hand_over(alice: Machine, gateway: FakeGateway, service: FakeService):
    gateway.keep_tls = True
    open_gateway(service, gateway)
    assert alice.jitctl(*CONNECT)[0] == 0
    seen = ssh_sees(alice, "web1")
    assert "ubuntu.ticket" in seen["proxycommand"][0]
    assert seen["proxyusefdpass"] == ["no"]


def test_direct_goes_past_it(alice: Machine, gateway: FakeGateway):
    assert gateway.port
    status, out, _ = alice.jitctl(*CONNECT, "--direct")
    assert status == 0
    assert out.startswith(f"ssh -F {alice.state}/ssh_config -l ubuntu -o ProxyCommand=none web1.default.jitgate")


@pytest.mark.parametrize("missing", ["ubuntu.ticket", "ubuntu.pub"])
def test_certificate_and_ticket_are_renewed_in_one_act(
    alice: Machine, gateway: FakeGateway, service: FakeService, missing: str
):
    assert gateway.port
    assert alice.jitctl(*CONNECT)[0] == 0
    before = len(service.requests)
    ssh_sees(alice, "web1")
    assert len(service.requests) == before  # both are fresh
    (alice.state / WEB1 / missing).unlink()
    ssh_sees(alice, "web1")
    assert requests(service)[before:].count("/v1/certificates") == 1
    times = {path.stat().st_mtime for path in (alice.state / WEB1).iterdir() if path.suffix != ".lock"}
    assert len(times) == 1
    ssh_sees(alice, "web1")
    assert requests(service)[before:].count("/v1/certificates") == 1


def test_a_ticket_that_ends_before_its_certificate_is_renewed_before_its_end(
    alice: Machine, gateway: FakeGateway, service: FakeService
):
    assert alice.jitctl(*CONNECT)[0] == 0
    long = (alice.state / WEB1 / "ubuntu.pub").stat().st_mtime
    open_gateway(service, gateway, expires_at=in_minutes(3))
    (alice.state / WEB1 / "ubuntu.ticket").unlink()
    assert alice.jitctl(*CONNECT)[0] == 0
    assert 600 < long - (alice.state / WEB1 / "ubuntu.pub").stat().st_mtime < 800


def test_without_proc_our_own_file_compares_the_times(
    alice: Machine, gateway: FakeGateway, service: FakeService, monkeypatch: pytest.MonkeyPatch
):
    assert gateway.port
    monkeypatch.setattr(sshconfig, "_NOW", Path("/nowhere"))
    assert alice.jitctl(*CONNECT)[0] == 0
    assert "--fresh" in (alice.state / "ssh_config").read_text()
    before = len(service.requests)
    ssh_sees(alice, "web1")
    assert len(service.requests) == before
    os.utime(alice.state / WEB1 / "ubuntu.ticket", (1, 1))
    ssh_sees(alice, "web1")
    assert requests(service)[before:].count("/v1/certificates") == 1


def test_the_ticket_goes_with_the_grant_and_with_the_sign_in(alice: Machine, gateway: FakeGateway):
    assert gateway.port
    ticket = alice.state / WEB1 / "ubuntu.ticket"
    assert alice.jitctl(*CONNECT)[0] == 0
    assert ticket.exists()
    assert alice.jitctl("grants", "end", GRANT)[0] == 0
    assert not ticket.exists()
    assert alice.jitctl(*CONNECT)[0] == 0
    assert alice.jitctl("logout")[0] == 0
    assert not ticket.exists()


def test_a_service_that_gets_or_loses_its_gateway(alice: Machine, gateway: FakeGateway, service: FakeService):
    """The renewal writes the config anew, so the ssh after it takes the new way."""
    kept = dict(service.instead)
    service.instead.clear()
    assert alice.jitctl(*CONNECT)[0] == 0
    assert "proxycommand" not in ssh_sees(alice, "web1")
    service.instead |= kept
    os.utime(alice.state / WEB1 / f"{GRANT}-cert.pub", (1, 1))
    ssh_sees(alice, "web1")
    assert str(gateway.port) in (alice.state / WEB1 / "ubuntu.ticket").read_text()
    assert "ubuntu.ticket" in ssh_sees(alice, "web1")["proxycommand"][0]
    service.instead.clear()
    os.utime(alice.state / WEB1 / f"{GRANT}-cert.pub", (1, 1))
    ssh_sees(alice, "web1")
    assert "proxycommand" not in ssh_sees(alice, "web1")
    assert not (alice.state / WEB1 / "ubuntu.ticket").exists()


@pytest.mark.parametrize(
    "changes",
    [
        {"address": "-oProxyCommand=id"},
        {"address": "a b"},
        {"address": "%h"},
        {"port": 0},
        {"port": "443"},
        {"server_name": "x'y"},
        {"ticket": "short"},
        {"ticket": "with space " * 5},
        {"expires_at": "soon"},
    ],
)
def test_a_gateway_with_odd_words_is_refused(
    alice: Machine, gateway: FakeGateway, service: FakeService, changes: dict[str, object]
):
    open_gateway(service, gateway, **changes)
    status, _, err = alice.jitctl(*CONNECT)
    assert status == 1
    assert err.splitlines()[-1].startswith(("jitctl: error: ", "jitctl: hint: "))
    assert not (alice.state / "ssh_config").exists()
    assert not (alice.state / WEB1).exists()


def test_a_folder_that_ssh_or_a_shell_would_read_as_something_else_is_refused(alice: Machine, gateway: FakeGateway):
    assert gateway.port
    for number, name in enumerate(("50%d", "it's", "a$b", 'a"b', "a\nb", "a`b")):
        state = alice.home / name / str(number)
        state.parent.mkdir()
        (alice.state.parent).rename(state)
        alice.environment["XDG_STATE_HOME"] = str(state.parent)
        state.rename(state.parent / "jitctl")
        status, _, err = alice.jitctl(*CONNECT)
        assert status == 1
        assert "a path that ssh would read as something else" in err
        assert not (state.parent / "jitctl/default/ssh_config").exists()
        (state.parent / "jitctl").rename(alice.state.parent)
        del alice.environment["XDG_STATE_HOME"]


def test_two_services_and_two_gateways(alice: Machine, gateway: FakeGateway, tmp_path: Path):
    assert alice.jitctl(*CONNECT)[0] == 0
    second = FakeService()
    second.hosts = [second.host("web2", "ubuntu")]
    second.instead["POST /v1/grants"] = lambda _: (201, {"grant": second.grant("web2", "ubuntu")})
    other = FakeGateway(tmp_path / "other", ("127.0.0.1", 1))
    open_gateway(second, other)
    second.instead["POST /v1/certificates"] = lambda _: (
        201,
        {
            "certificate": second.certificate(second.keys[0], principals=("ubuntu@host:web2",)).line(),
            "tunnel": {"ticket": TICKET, "expires_at": in_minutes(15), "address": "127.0.0.1", "port": other.port},
        },
    )
    login = ("login", second.url, "--name", "aaa", "--user", "alice", "--password-file", "-", "--code", CODE)
    assert alice.jitctl(*login, stdin=f"{PASSWORD}\n".encode())[0] == 0
    status, _, err = alice.jitctl("ssh-config", "install", "--profile", "aaa")
    assert (status, err) == (0, "jitctl: plain ssh knows web2\n")
    assert "/aaa/certs/web2.default.jitgate/ubuntu.ticket'" in ssh_sees(alice, "web2")["proxycommand"][0]
    assert "/default/certs/web1.default.jitgate/ubuntu.ticket'" in ssh_sees(alice, "web1")["proxycommand"][0]
    ports = [json.loads(path.read_text())["port"] for path in sorted(alice.state.parent.glob("*/certs/*/*.ticket"))]
    assert ports == [other.port, gateway.port]
    second.stop()
    other.stop()


def test_the_doctor_looks_at_the_tunnel(alice: Machine, gateway: FakeGateway, service: FakeService):
    def said() -> str:
        lines = alice.jitctl("doctor")[1].splitlines()
        return next(line for line in lines if " tunnel: " in line)

    assert "the TLS certificate of the gateway is not trusted" in said()
    gateway.stop()
    assert "cannot be reached: connection refused" in said()
    kept = dict(service.instead)
    assert alice.jitctl(*CONNECT)[0] == 0
    service.instead.clear()
    assert "moved since our ssh config was written" in said()
    assert alice.jitctl("ssh-config", "install")[0] == 0
    assert said() == "passed  tunnel: none: hosts are dialled directly"
    service.instead |= kept
    assert "moved since our ssh config was written" in said()


ASKS = [
    "ssh web1",
    "ssh -v web1 ls",
    "ssh -N web1",
    "ssh -- web1",
    "ssh web1 ls -G",
    "ssh -p 22 -l G web1",
    "ssh -oUser=G w",
]
ASKS += ["ssh -oBatchMode=no web1", "ssh -J a,b web1 -v", "ssh -W a:1 web1"]
NEVER = ["ssh -G web1", "ssh web1 -G", "ssh -vG web1", "ssh -p22 -G web1", "ssh -O check web1", "ssh -Oexit web1"]
NEVER += [
    "ssh -oBatchMode=yes web1",
    "ssh -o batchmode=YES web1",
    "ssh -Q key",
    "ssh -V",
    "ssh -tt -oBatchMode=true web1",
]


@pytest.mark.parametrize(("line", "asks"), [*((line, True) for line in ASKS), *((line, False) for line in NEVER)])
def test_which_ssh_may_ask_something(line: str, *, asks: bool):
    assert asked_by.may_ask(line.split()) is asks


def test_no_ssh_above_us_asks_nothing(monkeypatch: pytest.MonkeyPatch):
    assert not asked_by.ssh_may_ask()
    monkeypatch.setattr(asked_by, "_ancestors", lambda: iter([["sh", "-c", "x"], ["/usr/bin/ssh", "-p", "1", "web1"]]))
    assert asked_by.ssh_may_ask()


@pytest.mark.parametrize(("flag", "said"), [("-v", "True"), ("-G", "False")])
def test_the_ssh_above_us_is_found(tmp_path: Path, flag: str, said: str):
    """Through the shell and the env that our config puts between. Here a shell goes by the name of ssh."""
    ssh, script, code = (tmp_path / name for name in ("ssh", "web1", "code.py"))
    ssh.symlink_to("/bin/sh")
    code.write_text("from jitgate.cli import asked_by\nprint(asked_by.ssh_may_ask())\n")
    script.write_text(f"/bin/sh -c '/bin/false || /usr/bin/env X=y {sys.executable} {code} || /bin/true'\n/bin/true\n")
    environment = {"PYTHONPATH": str(SOURCE)}
    command = [str(ssh), str(script), flag]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == said


def test_install_show_and_remove(alice: Machine, gateway: FakeGateway):
    assert gateway.port
    assert alice.jitctl("ssh-config", "show")[0] == 6
    status, out, err = alice.jitctl("ssh-config", "install", "-o", "json")
    assert status == 0
    assert json.loads(out) == {"file": f"{alice.state}/ssh_config", "hosts": ["web1"]}
    assert err.endswith("jitctl: plain ssh knows web1\n")
    assert "ubuntu.ticket" in ssh_sees(alice, "web1")["proxycommand"][0]
    status, out, err = alice.jitctl("ssh-config", "show")
    assert out == (alice.state / "ssh_config").read_text()
    assert err == f"jitctl: {alice.state}/ssh_config, which plain ssh reads\n"
    status, out, _ = alice.jitctl("ssh-config", "remove")
    assert (status, out) == (0, "")
    assert not (alice.home / ".ssh/config").exists()  # nor was it there before
    assert not (alice.state / "ssh_config").exists()
    assert alice.jitctl("ssh-config", "remove")[0] == 0
    status, _, err = alice.jitctl(*CONNECT)  # goes on, and does not put the line there again
    assert status == 0
    assert not (alice.home / ".ssh/config").exists()
    assert "does not read: jitctl ssh-config install" in alice.jitctl("ssh-config", "show")[2]
    assert alice.jitctl("ssh-config", "install")[0] == 0
    assert ssh_sees(alice, "web1")["hostkeyalias"] == ["web1.default.jitgate"]


@pytest.mark.parametrize("own", [b"", b"# mine", b"Host *\r\n  Port 2\n\n\xe4\n", b"\n\n"])
@pytest.mark.parametrize("by", ["install", "connect"])
def test_remove_gives_back_what_stood_there_byte_for_byte(alice: Machine, own: bytes, by: str):
    config = alice.home / ".ssh/config"
    config.parent.mkdir(mode=0o700)
    config.write_bytes(own)
    config.chmod(0o640)
    for _ in range(2):
        assert alice.jitctl(*(CONNECT if by == "connect" else ("ssh-config", "install")))[0] == 0
    assert config.read_bytes().endswith(b"/ssh_config\n" + own)
    assert alice.jitctl("ssh-config", "remove")[0] == 0
    assert config.read_bytes() == own
    assert config.stat().st_mode & 0o777 == 0o640


def test_remove_finds_the_line_where_the_person_moved_it(alice: Machine):
    assert alice.jitctl("ssh-config", "install")[0] == 0
    config = alice.home / ".ssh/config"
    config.write_bytes(b"# above\n  " + config.read_bytes() + b"# below")
    assert alice.jitctl("ssh-config", "remove")[0] == 0
    assert config.read_bytes() == b"# above\n# below"


def test_a_host_that_is_not_permitted_any_more_is_not_known(alice: Machine, service: FakeService):
    service.hosts.append(service.host("web2", "ubuntu"))
    assert alice.jitctl("ssh-config", "install")[0] == 0
    assert ssh_sees(alice, "-l", "nobody", "web2")["hostname"] == ["127.0.0.1"]
    service.hosts.pop()
    assert alice.jitctl("ssh-config", "install")[0] == 0
    assert ssh_sees(alice, "web2")["hostname"] == ["web2"]
