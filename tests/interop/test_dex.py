"""Signing in by the real Dex with a real OpenLDAP behind it: jitctl as a process, a person at Dex's pages."""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pexpect
import pytest
from tests.client import Answer, Connection
from tests.dex import PASSWORDS, Provider, open_provider, visit
from tests.service import ROLES, Nursery, Service, new_service
from tests.webdriver import open_browser
from tests.world import World

from jitgate.adapters.oidc.provider import open_providers
from jitgate.app.demo.dex import OTHER_CLIENT, OTHER_REDIRECT, PUBLIC_CLIENT, settings_of
from jitgate.app.demo.person import get_token
from jitgate.app.settings import Settings
from jitgate.app.tls import make_authority, server_context
from jitgate.core.clock import SECOND, system_clock
from jitgate.core.secret import Secret
from jitgate.flow.elsewhere import Elsewhere
from jitgate.identity.nonce import nonce_for
from jitgate.identity.providers import ProviderSettings

ROOT = Path(__file__).parents[2]
SALT = "5a" * 32
REDIRECT = "http://127.0.0.1:9/callback"


@pytest.fixture(scope="module")
def service(nursery: Nursery, provider: Provider) -> Iterator[Service]:
    """A service whose people come from Dex; who is not known yet becomes a person."""
    with new_service(nursery) as made:
        with made.config.open("a") as file:
            file.write(settings_of(provider.dex))
        made.start()
        made.apply(ROLES)
        made.add_host("web1")
        yield made


@dataclass
class Machine:
    """A person's machine with nothing on it yet."""

    home: Path
    service: Service

    @contextmanager
    def start(self, *arguments: str, **more: str) -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            [sys.executable, "-m", "jitgate.cli", *arguments],
            env=self.environment(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,  # no terminal
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def environment(self, **more: str) -> dict[str, str]:
        path = os.pathsep.join((str(ROOT / "src"), str(ROOT)))
        return {"PATH": os.environ["PATH"], "HOME": str(self.home), "PYTHONPATH": path} | more

    def jitctl(self, *arguments: str, status: int = 0, **more: str) -> tuple[str, str]:
        with self.start(*arguments, **more) as process:
            out, err = process.communicate(timeout=50)
        assert process.returncode == status, err
        assert "Traceback" not in err
        return out, err

    def whoami(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.jitctl("whoami", "-o", "json")[0])
        return found


@pytest.fixture
def machine(service: Service) -> Iterator[Machine]:
    with tempfile.TemporaryDirectory(prefix="jitgate-home-") as folder:
        yield Machine(Path(folder), service)


def browser(name: str, password: str = "") -> str:
    """For BROWSER: a person with a browser that is none."""
    return f"{sys.executable} -m tests.dex {name} '{password or PASSWORDS[name]}' %s"


def test_a_browser_signs_in_and_the_groups_are_the_directorys(machine: Machine):
    out, err = machine.jitctl("login", machine.service.url, "--provider", "dex", BROWSER=browser("alice"))
    assert "as alice until" in err
    assert "You are signed in" in out  # the browser's page, which that browser prints
    found = machine.whoami()
    person = found["person"]
    assert isinstance(person, dict)
    assert (person["name"], person["groups"]) == ("alice", ["engineers"])
    assert "oidc" in json.dumps(found["sign_in"])
    assert re.search(r"^provider +dex \(http://127", machine.jitctl("whoami")[0], re.MULTILINE)
    assert json.loads(machine.jitctl("vm", "ls", "-o", "json")[0])[0]["name"] == "web1"
    assert "certificate" in machine.jitctl("cert", "get", "web1", "-o", str(machine.home / "web1-cert.pub"))[1]
    # the next sign-in goes the same way without being told
    assert "as alice until" in machine.jitctl("login", BROWSER=browser("alice"))[1]
    assert PASSWORDS["alice"] not in machine.service.words()


def test_a_real_browser_comes_back_to_a_page_that_says_so(machine: Machine, programs: Mapping[str, Path]):
    with (
        machine.start("login", machine.service.url, "--provider", "dex", "--no-browser") as process,
        open_browser(programs) as window,
    ):
        window.go(address_in(process))
        window.type("input[name=login]", "alice")
        window.type("input[name=password]", PASSWORDS["alice"])
        window.click("button[type=submit]")
        assert window.text("h1") == "You are signed in"
        assert window.text("p") == "You can close this window: jitctl goes on in your terminal."
        _, err = process.communicate(timeout=20)
    assert "as alice until" in err


def address_in(process: subprocess.Popen[str]) -> str:
    """The address that jitctl says to open."""
    assert process.stderr is not None
    return next(found[1] for line in process.stderr if (found := re.match(r"  (https?://\S+)", line)))


def test_who_cannot_sign_in_at_the_provider_is_not_signed_in_here(machine: Machine):
    with machine.start("login", machine.service.url, "--provider", "dex", BROWSER=browser("alice", "wrong")) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if "if none comes up" in line:
                break
        assert process.poll() is None  # it waits for the person to get it right
    assert "not signed in" in machine.jitctl("whoami", status=3)[1]


def test_without_a_browser_the_address_is_printed_and_the_redirect_pasted(machine: Machine):
    environment = machine.environment()
    command = ["-m", "jitgate.cli", "login", machine.service.url, "--provider", "dex", "--no-browser"]
    with pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", timeout=20) as terminal:
        terminal.setwinsize(24, 4096)
        terminal.expect(r"(http://127\.0\.0\.1:\d+/auth\?\S+)")
        url = terminal.match.group(1)
        (redirect,) = parse_qs(urlsplit(url).query)["redirect_uri"]
        ends_at, _ = visit(url, "bob", stop_at=redirect)
        terminal.expect("paste the address")
        terminal.sendline(ends_at.replace("state=", "state=x"))  # of another sign-in
        terminal.expect("that is not it")
        terminal.sendline(ends_at)
        terminal.expect("as bob until")
        terminal.expect(pexpect.EOF)
    assert machine.whoami()["person"]


def test_the_same_port_takes_the_browsers_answer_while_the_terminal_is_asked(machine: Machine):
    command = ["-m", "jitgate.cli", "login", machine.service.url, "--provider", "dex", "--no-browser"]
    with pexpect.spawn(sys.executable, command, env=machine.environment(), encoding="utf-8", timeout=20) as terminal:
        terminal.setwinsize(24, 4096)
        terminal.expect(r"(http://127\.0\.0\.1:\d+/auth\?\S+)")
        assert "You are signed in" in visit(terminal.match.group(1), "bob")[1]
        terminal.expect("as bob until")
        terminal.expect(pexpect.EOF)


@pytest.mark.parametrize("how", [["--device"], []])
def test_the_device_flow_signs_in_with_a_browser_elsewhere(machine: Machine, how: list[str]):
    """By --device, and by itself in an ssh session."""
    session = {"SSH_CONNECTION": "192.0.2.1 5000 192.0.2.2 22", "DISPLAY": ":0"}
    with machine.start("login", machine.service.url, "--provider", "dex", *how, **session) as process:
        assert "Login Successful" in visit(address_in(process), "alice")[1]
        _, err = process.communicate(timeout=50)
    assert process.returncode == 0, err
    assert "as alice until" in err
    person = machine.whoami()["person"]
    assert isinstance(person, dict)
    assert person["groups"] == ["engineers"]


def test_four_terminals_that_need_a_sign_in_open_one_browser(machine: Machine, provider: Provider):
    machine.jitctl("login", machine.service.url, "--provider", "dex", BROWSER=browser("alice"))
    machine.jitctl("logout")
    before = provider.dex.daemon.words().count("login successful")
    command = ["-m", "jitgate.cli", "vm", "connect", "ubuntu@web1", "--print"]
    environment = machine.environment(BROWSER=browser("alice"))
    with ExitStack() as stack:
        terminals = [
            stack.enter_context(pexpect.spawn(sys.executable, command, env=environment, encoding="utf-8", timeout=40))
            for _ in range(4)
        ]
        for terminal in terminals:
            terminal.expect("ssh -F ")
            terminal.expect(pexpect.EOF)
    assert provider.dex.daemon.words().count("login successful") == before + 1


@pytest.mark.usefixtures("provider")  # its program is on PATH then
def test_a_provider_with_a_tls_authority_of_its_own(nursery: Nursery, tmp_path: Path):
    """The service tells jitctl of it, for that provider and nothing else."""
    settings = Settings(state=tmp_path, url="https://127.0.0.1:1")
    make_authority(settings, system_clock())
    server_context(settings, system_clock())  # makes the certificate
    tls = tmp_path / "tls"
    with open_provider(tls=(tls / "server.pem", tls / "server.key")) as secure, new_service(nursery) as made:
        with made.config.open("a") as file:
            file.write(settings_of(secure.dex, more=f'ca_file = "{tls / "ca.pem"}"'))
        made.start()
        with tempfile.TemporaryDirectory(prefix="jitgate-home-") as folder:
            machine = Machine(Path(folder), made)
            with machine.start("login", made.url, "--provider", "dex", "--no-browser") as process:
                assert "You are signed in" in visit(address_in(process), "alice", ca=tls / "ca.pem")[1]
                assert process.wait(20) == 0
            with made.config.open() as file:
                made.stop()
                text = file.read().replace("ca_file", "# ca_file")
            made.config.write_text(text)
            made.start()
            _, err = machine.jitctl("login", "--no-browser", status=8)
            assert "ca_file" in err


# --- tokens of Dex that the service must not take, and one that it must ---


def token(
    provider: Provider, nonce: str, client: str = PUBLIC_CLIENT, redirect: str = REDIRECT, name: str = "alice"
) -> str:
    """An ID token for somebody, as any program gets one by the code flow."""
    return get_token(provider.dex.issuer, client, redirect, nonce, name, Secret(PASSWORDS[name]))


def nonce(connection: Connection, origin: str) -> str:
    return nonce_for(origin, "dex", connection.signer.key.public.fingerprint, SALT)


def present(connection: Connection, text: str) -> Answer:
    key = connection.signer.key.public.line("a@b")
    body = {"provider": "dex", "id_token": text, "salt": SALT, "key": key}
    return connection.post("/v1/sign-in/oidc", body, subject="oidc:dex")


@pytest.fixture
def stranger(service: Service) -> Connection:
    return service.connect()


def test_a_token_works_once(service: Service, provider: Provider, stranger: Connection):
    text = token(provider, nonce(stranger, service.url))
    assert present(stranger, text).status == 201
    again = present(stranger, text)
    assert (again.status, again.code) == (401, "token_used")


def test_a_token_for_another_program_is_refused(service: Service, provider: Provider, stranger: Connection):
    """Dex's, for the same person and with the nonce of this very sign-in, but for the wiki."""
    text = token(provider, nonce(stranger, service.url), OTHER_CLIENT, OTHER_REDIRECT)
    answer = present(stranger, text)
    assert (answer.status, answer.code) == (401, "token_audience")


def test_a_token_of_another_sign_in_is_refused(service: Service, provider: Provider, stranger: Connection):
    text = token(provider, nonce(service.connect(), service.url))
    answer = present(stranger, text)
    assert (answer.status, answer.code) == (401, "token_nonce")


def test_a_token_for_another_service_is_refused(provider: Provider, stranger: Connection):
    text = token(provider, nonce(stranger, "https://jitgate.example.com"))
    answer = present(stranger, text)
    assert (answer.status, answer.code) == (401, "token_nonce")


def test_new_keys_of_the_provider_are_found(service: Service, provider: Provider, stranger: Connection):
    old = token(provider, nonce(stranger, service.url))
    provider.rotate()
    new = service.connect()
    assert present(new, token(provider, nonce(new, service.url))).status == 201
    # signed by a key that the provider does not have any more
    assert present(stranger, old).status == 401


async def test_a_token_of_dex_ends(provider: Provider, world: World):
    """At most a minute after its time, for the clocks' sake. In this world the clock can be moved."""
    provider.rotate(life="30s")
    world.clock.advance(system_clock() - world.clock())
    settings = ProviderSettings(name="dex", issuer=provider.dex.issuer, client_id=PUBLIC_CLIENT, people="create")
    async with open_providers((settings,), world.clock) as known:
        world.change(elsewhere=Elsewhere(known))
        for later, code in ((80 * SECOND, ""), (100 * SECOND, "token_expired")):
            visitor = world.stranger()
            origin = visitor.signer.origin
            made = nonce_for(origin, "dex", visitor.signer.key.public.fingerprint, SALT)
            text = token(provider, made, name="nora")
            world.clock.advance(later)
            line = visitor.signer.key.public.line("a@b")
            body = {"provider": "dex", "id_token": text, "salt": SALT, "key": line}
            answer = await visitor.post("/v1/sign-in/oidc", body, subject="oidc:dex")
            world.clock.advance(-later)
            assert answer.code == code, answer
    provider.rotate()
