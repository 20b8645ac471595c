"""jitctl as a person runs it: in an empty home, against a service on loopback that the test controls."""

import io
import os
import pwd
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx2
import pytest
from tests.providers import CLIENT, FakeProvider
from tests.unit.cli.fake_service import CODE, PASSWORD, FakeService

from jitgate.cli import browser
from jitgate.cli.main import run

SOURCE = Path(__file__).parents[3] / "src"


@dataclass
class Machine:
    """A person's machine: an empty home and what jitctl shows there."""

    home: Path
    environment: dict[str, str]
    monkeypatch: pytest.MonkeyPatch
    words: dict[str, str] = field(default_factory=dict)
    """What is written short in a transcript: {URL} and the like."""

    @property
    def state(self) -> Path:
        return self.home / ".local/state/jitctl/default"

    @property
    def config(self) -> Path:
        return self.home / ".config/jitctl"

    def jitctl(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """In this process: status, stdout, stderr."""
        out, err = io.StringIO(), io.StringIO()
        return self._run(arguments, out, err, stdin), out.getvalue(), err.getvalue()

    def _run(self, arguments: tuple[str, ...], out: io.StringIO, err: io.StringIO, stdin: bytes) -> int:
        with self.monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("JITCTL", "XDG", "SSH_"))]:
                patch.delenv(name)
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
            return run(list(arguments))

    def start(self, *arguments: str, **more: str) -> subprocess.Popen[str]:
        """As a process of its own, without a terminal."""
        return subprocess.Popen(
            [sys.executable, "-m", "jitgate.cli", *arguments],
            env=self.process_environment() | more,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def process(self, *arguments: str, **more: str) -> tuple[int, str, str]:
        process = self.start(*arguments, **more)
        out, err = process.communicate(timeout=30)
        return process.returncode, out, err

    def process_environment(self) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCE), "PYTHONWARNINGS": "error"} | self.environment

    def transcript(self, text: str) -> None:
        """Runs each `$ jitctl ...` line and compares what it shows; `...` stands for anything, `? 3` for a status."""
        wanted = "\n".join(squeezed(line) for line in text.strip().splitlines())
        steps = re.split(r"^\$ jitctl", wanted, flags=re.MULTILINE)[1:]
        for step in steps:
            command, _, shown = step.partition("\n")
            arguments = tuple(self._short(word) for word in re.findall(r"'[^']*'|\S+", command))
            both = io.StringIO()
            status = self._run(tuple(word.strip("'") for word in arguments), both, both, b"")
            seen = "\n".join(squeezed(line) for line in both.getvalue().strip().splitlines())
            expected, _, code = shown.strip().partition("? ")
            pattern = "[^\n]*".join(map(re.escape, self._short(expected.strip()).split("...")))
            assert re.fullmatch(pattern, seen), f"$ jitctl{command}\n{seen}\n\n  is not\n\n{expected}"
            assert status == int(code or 0), f"$ jitctl{command}: status {status}"

    def _short(self, text: str) -> str:
        for name, value in self.words.items():
            text = text.replace(name, value)
        return text


def squeezed(line: str) -> str:
    """Without the padding of columns, whose width depends on the time of day."""
    return re.sub(" {2,}", "  ", line.strip())


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, programs: Mapping[str, Path]) -> Machine:
    assert "ssh" in programs  # and they are on PATH
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    # where the machine's own user list says that it is, which is what ssh reads
    account = pwd.getpwuid(os.getuid())
    here = pwd.struct_passwd((*account[:5], str(home), account.pw_shell))
    monkeypatch.setattr(pwd, "getpwuid", lambda _: here)
    return Machine(home, {"HOME": str(home), "JITCTL_NO_INPUT": "1", "TZ": "UTC"}, monkeypatch)


@pytest.fixture
def service() -> Iterator[FakeService]:
    fake = FakeService()
    yield fake
    fake.stop()


@pytest.fixture
def sign_in(machine: Machine, service: FakeService) -> Callable[..., tuple[int, str, str]]:
    """`sign_in()`: alice signs in; the machine then has a profile, a key and a session."""
    machine.words["{URL}"] = service.url

    def login(*more: str, password: str = PASSWORD, code: str = CODE) -> tuple[int, str, str]:
        given = ("--user", "alice", "--password-file", "-", "--code", code)
        return machine.jitctl("login", service.url, *given, *more, stdin=f"{password}\n".encode())

    return login


@pytest.fixture
def alice(machine: Machine, sign_in: Callable[..., tuple[int, str, str]]) -> Machine:
    """A machine on which alice is signed in."""
    status, _, err = sign_in()
    assert status == 0, err
    return machine


@pytest.fixture
def other_key(tmp_path: Path) -> str:
    """A private key file that is not jitctl's own."""
    path = tmp_path / "id_other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "alice@desk", "-f", str(path)], check=True)
    return str(path)


class Person:
    """Who sits in front of the browser: does what the test says with the address that is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.does: Callable[[str], httpx2.Response] = follow
        self.saw: list[httpx2.Response] = []
        self.threads: list[threading.Thread] = []
        monkeypatch.setattr(browser, "open_browser", self.open)

    def open(self, url: str) -> None:
        self.threads.append(threading.Thread(target=lambda: self.saw.append(self.does(url))))
        self.threads[-1].start()

    @property
    def page(self) -> str:
        """The last page that was seen."""
        for thread in self.threads:
            thread.join()
        return self.saw[-1].text if self.saw else ""


def follow(url: str) -> httpx2.Response:
    return httpx2.get(url, follow_redirects=True)


@pytest.fixture
def provider() -> Iterator[FakeProvider]:
    fake = FakeProvider()
    with fake.serve():
        yield fake


@pytest.fixture
def person(
    machine: Machine, service: FakeService, provider: FakeProvider, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Person]:
    machine.environment["DISPLAY"] = ":0"
    service.provider = {
        "name": "dex",
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "scopes": ["openid", "groups"],
        "flows": ["code", "device"],
    }
    made = Person(monkeypatch)
    yield made
    for thread in made.threads:
        thread.join()


def login(machine: Machine, service: FakeService, *more: str) -> tuple[int, str]:
    status, _, err = machine.jitctl("login", service.url, "--provider", "dex", *more)
    return status, err
