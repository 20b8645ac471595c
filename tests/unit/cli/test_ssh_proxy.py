"""The ProxyCommand as ssh runs it, against a gateway of canned verdicts."""

import array
import contextlib
import hashlib
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.gateways import TICKET, FakeGateway

from jitgate.cli.ssh_proxy import tunnel

pytestmark = pytest.mark.enable_socket  # a gateway and a host on loopback, made for these tests

PROXY = Path(tunnel.__file__).parent
PYTHON = os.path.realpath(sys.executable)
REFUSED = {"ok": False, "code": "ended", "detail": "the grant has ended", "hint": "jitctl vm connect web1"}


@pytest.fixture
def host() -> Iterator[tuple[str, int]]:
    """It speaks first; says what it got when that has ended; and then closes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.sendall(b"SSH-2.0-host\r\n")
            digest = hashlib.sha256()
            while data := connection.recv(1 << 16):
                digest.update(data)
            connection.sendall(digest.hexdigest().encode() * 50_000)

    def accept() -> None:
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            return

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield listener.getsockname()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def start_gateway(tmp_path: Path, host: tuple[str, int]) -> Iterator[Callable[..., FakeGateway]]:
    started: list[FakeGateway] = []

    def start(**more: object) -> FakeGateway:
        started.append(FakeGateway(tmp_path / f"gateway{len(started)}", host, **more))  # type: ignore[arg-type]  # as given
        return started[-1]

    yield start
    for gateway in started:
        gateway.stop()


@pytest.fixture
def gateway(start_gateway: Callable[..., FakeGateway]) -> FakeGateway:
    return start_gateway()


def passed_by(ticket: Path) -> tuple[socket.socket | None, int, str]:
    """What ssh gets from its ProxyCommand with `ProxyUseFdpass yes`: a connection or none; its status and words."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [PYTHON, "-I", "-S", str(PROXY), str(ticket)]
        done = subprocess.run(
            command, stdin=theirs.fileno(), stdout=theirs.fileno(), stderr=subprocess.PIPE, check=False
        )
        ours.setblocking(False)
        rights = array.array("i")
        try:
            _, control, *_ = ours.recvmsg(1, socket.CMSG_SPACE(rights.itemsize))
        except BlockingIOError:
            control = []
        for _, _, data in control:
            rights.frombytes(data)
        connection = socket.socket(fileno=rights[0]) if rights else None
        return connection, done.returncode, done.stderr.decode()


def refused_by(ticket: Path) -> str:
    connection, status, words = passed_by(ticket)
    assert connection is None
    assert status == 1
    assert "Traceback" not in words
    return words


def test_ssh_gets_the_bare_connection(gateway: FakeGateway, tmp_path: Path):
    connection, status, words = passed_by(gateway.ticket(tmp_path / "t"))
    assert (status, words) == (0, "")
    assert connection is not None
    with connection, connection.makefile("rwb") as file:
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        assert os.get_blocking(connection.fileno())
        assert file.readline() == b"SSH-2.0-host\r\n"  # in clear: TLS has ended on both sides
        sent = os.urandom(3_000_000)
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert file.read(64) == hashlib.sha256(sent).hexdigest().encode()
    assert gateway.hellos == [{"v": 1, "ticket": TICKET, "host": "web1"}]


@pytest.mark.parametrize("keep_tls", [True, False])
def test_a_relay_carries_every_byte_and_the_end_of_each_direction(
    *, start_gateway: Callable[..., FakeGateway], tmp_path: Path, keep_tls: bool
):
    """With pipes instead of a socket, as `ProxyUseFdpass no` gives them."""
    gateway = start_gateway(keep_tls=keep_tls)
    command = [PYTHON, "-I", "-S", str(PROXY), str(gateway.ticket(tmp_path / "t"))]
    sent = os.urandom(3_000_000)
    done = subprocess.run(command, input=sent, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"SSH-2.0-host\r\n" + hashlib.sha256(sent).hexdigest().encode() * 50_000


def test_a_relay_ends_when_ssh_has_gone(start_gateway: Callable[..., FakeGateway], tmp_path: Path):
    gateway = start_gateway(keep_tls=True)
    command = [PYTHON, "-I", "-S", str(PROXY), str(gateway.ticket(tmp_path / "t"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"SSH-2.0-host\r\n"
        process.stdout.close()
        process.stdin.close()
        assert process.wait(20) in (0, 1)
        assert process.stderr.read() == b""


def test_a_relay_does_not_spin_while_nothing_is_said(start_gateway: Callable[..., FakeGateway], tmp_path: Path):
    gateway = start_gateway(keep_tls=True)
    command = [PYTHON, "-I", "-S", str(PROXY), str(gateway.ticket(tmp_path / "t"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"SSH-2.0-host\r\n"

        def used() -> int:
            return sum(map(int, Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]))

        before = used()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        assert used() - before <= 10  # hundredths of a second
        process.stdin.close()
        process.stdout.read()


def test_a_refusal_is_said_and_cannot_write_on_the_terminal(gateway: FakeGateway, tmp_path: Path):
    gateway.instead = lambda _: REFUSED | {"hint": "\x1b]0;owned\x07" + "x" * 9000}
    words = refused_by(gateway.ticket(tmp_path / "t"))
    first, second = words.splitlines()
    assert first == "jitctl: error: the grant has ended"
    assert second.startswith("jitctl: hint: \\u001b]0;owned\\u0007xxx")
    assert len(second) < 600
    assert TICKET not in words


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "the gateway gave no answer: it closed the connection"),
        (b"\0\0", "the gateway gave no answer: it closed the connection"),
        (struct.pack(">I", 1 << 31), "the gateway's answer is not one"),
        (struct.pack(">I", 4) + b"true", "the gateway's answer is not one"),
        (struct.pack(">I", 4) + b"\xff{}}", "the gateway's answer is not one"),
        (struct.pack(">I", 9000) + b"[" * 9000, "the gateway's answer is not one"),
        (struct.pack(">I", 13) + b'{"ok":"true"}', "refused"),
        (struct.pack(">I", 8) + b'{"ok":1}', "refused"),
        (struct.pack(">I", 2) + b"{}", "refused"),
    ],
)
def test_only_a_clear_yes_is_one(gateway: FakeGateway, tmp_path: Path, answer: bytes, said: str):
    gateway.instead = lambda _: answer
    assert refused_by(gateway.ticket(tmp_path / "t")).startswith(f"jitctl: error: {said}\n")


def test_an_untrusted_gateway_gets_no_ticket(
    gateway: FakeGateway, start_gateway: Callable[..., FakeGateway], tmp_path: Path
):
    other = start_gateway()
    for changes in ({"ca_file": str(other.ca_file)}, {"ca_file": ""}, {"server_name": "gateway.example.com"}):
        words = refused_by(gateway.ticket(tmp_path / "t", **changes))
        assert words.startswith("jitctl: error: the TLS certificate of the gateway is not trusted: ")
    assert gateway.hellos == []


def test_what_is_no_gateway_gets_no_ticket(start_gateway: Callable[..., FakeGateway], tmp_path: Path):
    """A web server, or a proxy that ends TLS itself."""
    web = start_gateway(alpn="http/1.1")
    words = refused_by(web.ticket(tmp_path / "t"))
    assert "none: something before it ends TLS, or the address is wrong" in words or "no TLS 1.3 with" in words
    old = start_gateway()
    old._context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert refused_by(old.ticket(tmp_path / "t")).startswith("jitctl: error: no TLS 1.3 with the gateway: ")
    assert web.hellos == old.hellos == []


def test_nobody_there(gateway: FakeGateway, tmp_path: Path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        words = refused_by(gateway.ticket(tmp_path / "t", port=closed.getsockname()[1]))
    assert "cannot be reached: connection refused\njitctl: hint: is this machine online" in words
    assert "the gateway nowhere.invalid is not found" in refused_by(
        gateway.ticket(tmp_path / "t", address="nowhere.invalid")
    )


def test_each_address_in_turn(gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        found = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", address)
            for address in (closed.getsockname(), ("127.0.0.1", gateway.port))
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        with tunnel.dial("gateway.example.com", 443) as connection:
            assert connection.getpeername() == ("127.0.0.1", gateway.port)


def test_a_gateway_that_says_nothing_is_waited_for_only_so_long(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tunnel, "VERDICT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = tunnel.dial(*silent.getsockname())
        with pytest.raises(tunnel.TunnelError, match=r"no TLS 1\.3 with the gateway: no answer in time"):
            tunnel.secure(connection, "127.0.0.1", "")


def test_a_gateway_that_drips_is_waited_for_only_so_long(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    stop = threading.Event()
    gateway.instead = lambda _: struct.pack(">?", stop.wait(5))
    ticket = tunnel.read_ticket(str(gateway.ticket(tmp_path / "t")))
    monkeypatch.setattr(tunnel, "VERDICT_S", 0.2)
    with (
        tunnel.open_gateway("127.0.0.1", gateway.port, "127.0.0.1", str(gateway.ca_file)) as secured,
        pytest.raises(tunnel.TunnelError, match="the gateway gave no answer: no answer in time"),
    ):
        tunnel.ask(secured, ticket)
    stop.set()


def test_a_ticket_file_that_is_not_ours_alone_is_refused(gateway: FakeGateway, tmp_path: Path):
    ticket = gateway.ticket(tmp_path / "t")
    link = tmp_path / "link"
    link.symlink_to(ticket)
    assert "there is no ticket for this host" in refused_by(link)
    assert "there is no ticket for this host" in refused_by(tmp_path / "missing")
    assert "is not a file for you only" in refused_by(tmp_path)
    ticket.chmod(0o640)
    assert "is not a file for you only" in refused_by(ticket)
    assert gateway.hellos == []


@pytest.mark.parametrize(
    "changes",
    [
        {"ticket": ""},
        {"ticket": 1},
        {"host": None},
        {"address": []},
        {"port": 0},
        {"port": 1 << 16},
        {"port": "443"},
        {"server_name": ""},
        {"ca_file": None},
        {"padding": "x" * (1 << 14)},
    ],
)
def test_a_ticket_file_with_something_else_in_it(gateway: FakeGateway, tmp_path: Path, changes: dict[str, object]):
    assert "jitctl: hint: jitctl ssh-config install\n" in refused_by(gateway.ticket(tmp_path / "t", **changes))
    assert gateway.hellos == []


def test_tls_that_stays_on_is_not_handed_over(start_gateway: Callable[..., FakeGateway], tmp_path: Path):
    """ssh would send its banner into TLS."""
    words = refused_by(start_gateway(keep_tls=True).ticket(tmp_path / "t"))
    assert "the gateway keeps TLS on now, and this ssh config does not" in words


def test_the_marker_says_whether_there_is_something_to_renew(tmp_path: Path):
    one, two = tmp_path / "a", tmp_path / "b"
    one.touch()
    two.touch()

    def status() -> int:
        return subprocess.run([PYTHON, "-I", "-S", str(PROXY), "--fresh", str(one), str(two)], check=False).returncode

    assert status() == 1
    os.utime(one, (time.time() + 60,) * 2)
    assert status() == 1
    os.utime(two, (time.time() + 60,) * 2)
    assert status() == 0
    one.unlink()
    assert status() == 1


def fast(ticket: Path) -> tuple[list[str], str]:
    """What the short way alone has loaded at its end, and what went wrong in it."""
    code = f"import sys; sys.path.append({str(PROXY)!r}); import fast; fast.pass_on({str(ticket)!r})"
    code += "; print(*sys.modules, file=sys.stderr)"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [PYTHON, "-I", "-S", "-c", code]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SSL_")}
        done = subprocess.run(
            command, env=environment, stdout=theirs.fileno(), stderr=subprocess.PIPE, text=True, check=False
        )
    last = done.stderr.splitlines()[-1]
    return ([], last) if done.returncode else (last.split(), "")


def test_the_common_case_starts_with_little(gateway: FakeGateway, tmp_path: Path):
    """What is imported is a part of every ssh's start."""
    loaded, error = fast(gateway.ticket(tmp_path / "t"))
    assert not error
    assert {"_ssl", "_socket"} <= set(loaded)
    assert {"ssl", "socket", "json", "re", "enum", "os", "typing", "site"}.isdisjoint(loaded)
    assert len(gateway.hellos) == 1


def test_the_short_way_trusts_no_more_than_the_long_one(
    gateway: FakeGateway, start_gateway: Callable[..., FakeGateway], tmp_path: Path
):
    other, web, old = start_gateway(), start_gateway(alpn="http/1.1"), start_gateway()
    old._context.maximum_version = ssl.TLSVersion.TLSv1_2
    for changes in ({"ca_file": str(other.ca_file)}, {"ca_file": ""}, {"server_name": "gateway.example.com"}):
        assert "CERTIFICATE_VERIFY_FAILED" in fast(gateway.ticket(tmp_path / "t", **changes))[1]
    assert fast(web.ticket(tmp_path / "t"))[1]
    assert fast(old.ticket(tmp_path / "t"))[1]
    open_to_others = gateway.ticket(tmp_path / "open")
    open_to_others.chmod(0o644)
    for path in (open_to_others, gateway.ticket(tmp_path / "quoted", host='w"eb1'), tmp_path / "missing"):
        assert fast(path)[1]
    assert gateway.hellos == web.hellos == old.hellos == []


def test_the_long_way_starts_with_no_more_than_it_needs():
    code = f"import sys; sys.path.append({str(PROXY)!r}); import tunnel; print(*sys.modules)"
    loaded = subprocess.run([PYTHON, "-I", "-S", "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "ssl" in loaded
    assert {"typing", "dataclasses", "pathlib", "subprocess", "logging", "inspect", "site"}.isdisjoint(loaded)


@pytest.mark.parametrize("module", ["_ssl", "_socket", "posix"])
def test_a_python_whose_inner_modules_are_others_takes_the_long_way(gateway: FakeGateway, tmp_path: Path, module: str):
    ticket = gateway.ticket(tmp_path / "t")
    main = f"import runpy; runpy.run_path({str(PROXY)!r}, run_name='__main__')"
    less = {"_ssl": "_ssl._SSLContext", "_socket": "_socket.SO_KEEPALIVE", "posix": "posix.geteuid"}[module]
    code = f"import ssl, socket, json, os, sys, {module}; sys.argv = ['proxy', {str(ticket)!r}]; del {less}; {main}"
    ours, theirs = socket.socketpair()
    with ours, theirs:
        command = [PYTHON, "-I", "-S", "-c", code]
        done = subprocess.run(command, stdout=theirs.fileno(), stderr=subprocess.PIPE, check=False)
    assert done.returncode == 0, done.stderr
    assert len(gateway.hellos) == 1


def test_it_says_what_it_is_for(capsys: pytest.CaptureFixture[str]):
    assert tunnel.main([]) == 1
    assert tunnel.main(["--no-login", "web1", "ubuntu", "deploy"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "jitctl: error: ssh runs this, by our ssh config",
        "jitctl: hint: jitctl ssh-config show",
        "jitctl: error: on web1 you may be ubuntu or deploy",
        "jitctl: hint: ssh ubuntu@web1, or: jitctl explain web1",
    ]


def test_a_publicly_trusted_gateway_is_believed_by_folder_or_by_file(
    gateway: FakeGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """The folder is looked at first because reading the whole file takes long; it may lack what the file has."""
    folder = tmp_path / "certs"
    folder.mkdir()
    paths = ssl.get_default_verify_paths()._replace(capath=str(folder))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: paths)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)

    def reached() -> bool:
        try:
            tunnel.open_gateway("127.0.0.1", gateway.port, "127.0.0.1", "").close()
        except tunnel.UntrustedError:
            return False
        return True

    assert not reached()
    (folder / "one.pem").write_bytes(gateway.ca_file.read_bytes())
    assert not reached()
    name = "e954e4cf"  # openssl x509 -subject_hash: of the words "CN = jitgate self-made TLS authority"
    (folder / f"{name}.0").symlink_to("one.pem")
    assert reached()
    (folder / f"{name}.0").unlink()
    monkeypatch.setenv("SSL_CERT_FILE", str(gateway.ca_file))
    assert reached()
