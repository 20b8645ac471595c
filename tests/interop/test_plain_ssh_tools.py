"""What long-lived tools do with ssh: masters, forwards, an editor's remote pattern, many forks at once."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.interop.plain import Plain, ansible_settings, at_home, end_masters, more_hosts
from tests.people import Person

from jitgate.app.demo.daemon import free_port

FORKS = 20
AT_ONCE = 8  # to one host; a stock sshd begins to refuse at ten that have not logged in yet (MaxStartups)


@pytest.fixture
def alice(plain_alice: Person) -> Iterator[Person]:
    """At home with nothing fetched yet, for tests that count what is fetched."""
    with at_home(plain_alice) as person:
        yield person


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short: a Unix socket's path has at most 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="jg-") as name:
        yield Path(name)


@pytest.fixture
def echo() -> Iterator[int]:
    """The port of something that a forward leads to."""
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=answer, args=(listener,), daemon=True)
    thread.start()
    yield int(listener.getsockname()[1])
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join()


@pytest.fixture
def in_background() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`in_background(plain, "ssh", ...)`: runs until the test ends, or its input."""
    started: list[subprocess.Popen[str]] = []

    def start(plain: Plain, *command: str) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        environment = plain.alice.environment
        process = subprocess.Popen(
            command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.terminate()
        process.communicate()


def said_over(port: int, words: bytes, before: bytes = b"") -> bytes:
    """What comes back through a forward."""
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        if before:
            connection.sendall(before)
        connection.sendall(words)
        return connection.makefile("rb").read()


def issued(person: Person) -> int:
    return len(json.loads(person.jitctl("audit", "--type", "certificate.issued", "-o", "json").stdout))


def test_forwards_where_the_role_grants_them(
    plain: Plain, echo: int, folder: Path, in_background: Callable[..., subprocess.Popen[str]]
):
    local, back, dynamic, unix = free_port(), free_port(), free_port(), folder / "unix"
    forwards = ["-L", f"127.0.0.1:{local}:127.0.0.1:{echo}", "-R", f"127.0.0.1:{back}:127.0.0.1:{echo}"]
    forwards += ["-D", f"127.0.0.1:{dynamic}", "-L", f"{unix}:127.0.0.1:{echo}", "-o", "ExitOnForwardFailure=yes"]
    process = in_background(plain, "ssh", *plain.options, *forwards, "deploy@web1", "echo ready; cat")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.stderr
    assert said_over(local, b"local") == b"hello local"
    assert said_over(back, b"back") == b"hello back"
    socks = b"\4\1" + echo.to_bytes(2) + bytes([127, 0, 0, 1]) + b"\0"
    assert said_over(dynamic, b"dynamic", socks)[8:] == b"hello dynamic"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(unix))
        connection.sendall(b"unix")
        assert connection.makefile("rb").read() == b"hello unix"


def test_no_forwards_where_it_does_not(plain: Plain, echo: int):
    port = free_port()
    options = ("-o", "ExitOnForwardFailure=yes", "-R", f"127.0.0.1:{port}:127.0.0.1:{echo}")
    done = plain.ssh(*options, "ubuntu@web1", "true", status=255)
    assert "remote port forwarding failed" in done.stderr
    done = plain.ssh("-W", f"127.0.0.1:{echo}", "ubuntu@web1", status=255)
    assert "administratively prohibited" in done.stderr


def test_no_agent_goes_along(plain: Plain, folder: Path):
    """Not by our config, and not where it is asked for: the certificate does not permit it."""
    path = str(folder / "agent")
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    try:
        while not Path(path).exists():
            assert agent.poll() is None
        for options in ((), ("-A",)):
            command = ("ssh", *plain.options, *options, "ubuntu@web1", "echo ${SSH_AUTH_SOCK:-none}")
            assert plain.alice.run(*command, SSH_AUTH_SOCK=path).stdout == "none\n"
    finally:
        agent.terminate()
        agent.wait()


def test_the_pattern_of_an_editor(
    plain: Plain, echo: int, folder: Path, in_background: Callable[..., subprocess.Popen[str]]
):
    """VS Code Remote-SSH: a script on the stdin of `ssh -T -D PORT HOST bash`, then its server by SOCKS or a socket."""
    dynamic, local, remote = free_port(), free_port(), folder / "server"
    folder.chmod(0o755)
    with unix_echo(remote):
        forwards = ("-D", str(dynamic), "-L", f"127.0.0.1:{local}:{remote}")
        process = in_background(plain, "ssh", *plain.options, "-T", *forwards, "deploy@web1", "bash")
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write('echo "$0: $USER"\nread line; echo "$line"\nit is me\n')
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["bash: deploy\n", "it is me\n"]
        socks = b"\4\1" + echo.to_bytes(2) + bytes([127, 0, 0, 1]) + b"\0"
        assert said_over(dynamic, b"socks", socks)[8:] == b"hello socks"
        assert said_over(local, b"unix") == b"hello unix"
        process.stdin.write("exit 5\n")
        process.stdin.flush()
        assert process.wait(20) == 5


@contextlib.contextmanager
def unix_echo(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o777)
        listener.listen()
        thread = threading.Thread(target=answer, args=(listener,), daemon=True)
        thread.start()
        yield
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def answer(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello " + connection.recv(100))


def test_a_master_outlives_its_certificate_and_the_next_one_gets_another(plain_alice: Person, folder: Path):
    """Certificates of db1 are good for 10 s. A session over the master needs none; a new connection a new one."""
    plain = Plain(plain_alice, "tunnel")
    master = ("-o", f"ControlPath={folder}/%C", "-o", "ControlMaster=auto", "-o", "ControlPersist=yes")
    try:
        plain.ssh(*master, "postgres@db1", "true")
        first = plain_alice.state / "certs/db1.default.jitgate/postgres.pub"
        name, content = first.readlink(), first.read_text()
        deadline = re.findall(r"to [\d-]+T[\d:]+", described(first))
        while described(first).split(" to ")[1][:19] > time.strftime("%Y-%m-%dT%H:%M:%S"):
            time.sleep(0.2)  # until it has ended: the test is about what comes then
        assert deadline
        assert plain.ssh(*master, "postgres@db1", "echo over it").stdout == "over it\n"
        plain.ssh(*master, "-O", "exit", "postgres@db1")
        assert plain.ssh(*master, "postgres@db1", "echo anew").stdout == "anew\n"
        assert first.readlink() == name  # of the same grant
        assert first.read_text() != content
    finally:
        plain_alice.run("ssh", *plain.options, *master, "-O", "exit", "postgres@db1")


def described(certificate: Path) -> str:
    done = subprocess.run(["ssh-keygen", "-L", "-f", str(certificate)], capture_output=True, text=True, check=True)
    return next(line for line in done.stdout.splitlines() if "Valid:" in line)


def test_many_ssh_at_once_get_one_certificate(alice: Person):
    before = issued(alice)
    command = ["ssh", *Plain(alice, "tunnel").options, "ubuntu@web1", "echo", "here"]
    pipe = subprocess.PIPE
    forks = [
        subprocess.Popen(command, env=alice.environment, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
        for _ in range(AT_ONCE)
    ]
    said = [fork.communicate() for fork in forks]
    assert [out for out, _ in said] == ["here\n"] * AT_ONCE, said
    assert issued(alice) == before + 1


@pytest.mark.timeout(180)
def test_a_play_over_many_hosts(alice: Person, folder: Path):
    """Ansible with pipelining and ControlPersist, 20 forks, 20 hosts that it has never seen, no certificate yet."""
    names = [f"node{at}" for at in range(FORKS)]
    playbook = folder / "play.json"
    tasks = [
        {"ansible.builtin.shell": "echo {{ inventory_hostname }}; echo $HOME", "register": "said"},
        {"ansible.builtin.copy": {"content": "{{ inventory_hostname }}\n", "dest": "{{ said.stdout_lines[1] }}/here"}},
        {"ansible.builtin.command": "cat here", "register": "kept"},
        {"ansible.builtin.assert": {"that": "said.stdout_lines[0] == inventory_hostname == kept.stdout"}},
    ]
    playbook.write_text(json.dumps([{"hosts": "all", "gather_facts": False, "tasks": tasks}]))
    settings = ansible_settings(folder, f"-F {alice.config}", FORKS)
    with more_hosts(alice.world, names):
        alice.jitctl("ssh-config", "install")
        before = issued(alice)
        ansible = str(Path(sys.executable).with_name("ansible-playbook"))
        try:
            done = alice.run(ansible, "-i", ",".join(names), "-u", "ubuntu", str(playbook), **settings)
            assert done.returncode == 0, done.stdout + done.stderr
            assert done.stdout.count("failed=0") == FORKS
            assert issued(alice) == before + FORKS
        finally:
            end_masters(alice, folder)
