"""The program as such: how it starts, what it imports, how it ends."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner
from tests.unit.cli.conftest import Machine
from tests.unit.cli.fake_service import FakeService

from jitgate.cli import main
from jitgate.cli.main import root

HEAVY = {"httpx2", "cryptography", "asyncio", "ssl", "socket", "pydantic", "yaml", "jitgate.ssh", "jitgate.identity"}
BASE = {"click", "cryptography", "httpx2", "jitgate"}


def commands(
    command: click.Command = root, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            below = command.get_command(context, name)
            assert below is not None
            yield from commands(below, (*path, name))


ALL = dict(commands())


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["vm", "--help"], ["completion", "--help"]])
def test_starting_loads_nothing_heavy(arguments: list[str]):
    code = f"""
import sys
from jitgate.cli.main import run
status = run({arguments})
loaded = {HEAVY} & set(sys.modules)
sys.exit(status or (f"loaded {{loaded}}" if loaded else 0))
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_every_command_runs_on_the_base_install():
    """All modules are loaded with everything hidden that is neither the standard library nor the base install."""
    code = f"""
import sys
import importlib.metadata as metadata
allowed = set()
def take(name):
    if name not in allowed:
        allowed.add(name)
        for need in metadata.requires(name) or ():
            if "extra ==" not in need:
                try:
                    take(__import__("re").match(r"[A-Za-z0-9_.-]+", need)[0].lower())
                except metadata.PackageNotFoundError:
                    pass
for name in ("click", "cryptography", "httpx2"):
    take(name)
tops = {{top for top, names in metadata.packages_distributions().items() if {{n.lower() for n in names}} & allowed}}
class Hidden:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in tops | {{"jitgate"}} and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"no module named {{name!r}}", name=name)
sys.meta_path.insert(0, Hidden())
from jitgate.cli.main import run
for path in {[list(path) for path in ALL]}:
    assert run([*path, "--help"]) == 0, path
import os
sys.exit(run(["policy", "check", os.curdir]))
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": os.environ["PATH"], "HOME": "/nowhere"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1, done.stderr
    assert "jitctl: error: role files need more than the base install: " in done.stderr
    assert done.stderr.endswith("jitctl: hint: install jitgate with the extra [policy]\n")


@pytest.mark.parametrize("path", list(ALL), ids=" ".join)
def test_every_help_says_what_it_does_and_ends_with_examples(path: tuple[str, ...]):
    shown = CliRunner().invoke(root, [*path, "--help"], prog_name="jitctl").output
    start, _, examples = shown.partition("  Examples:\n")
    assert examples, shown
    assert len(start.split("\n\n")[1].split()) >= 3
    for line in examples.splitlines():
        words = line.split()
        assert words[0] == "jitctl"
        assert tuple(words[1 : len(path) + 1]) == path
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name


def test_the_tree_and_the_commands_say_the_same():
    """One line in the tree, more in the command's own help; both are there for each."""
    for path, command in ALL.items():
        assert command.name == (path[-1] if path else "jitctl")


@pytest.mark.enable_socket
def test_the_flag_outranks_the_environment_and_that_the_file(alice: Machine, service: FakeService):
    with (alice.config / "config.toml").open("a") as file:
        file.write("")
    config = (alice.config / "config.toml").read_text()
    (alice.config / "config.toml").write_text('output = "yaml"\n' + config)
    assert alice.jitctl("vm", "ls")[1].startswith('- "name": "web1"\n')
    alice.environment["JITCTL_OUTPUT"] = "json"
    assert alice.jitctl("vm", "ls")[1].startswith("[\n")
    assert alice.jitctl("vm", "ls", "-o", "table")[1].startswith("NAME")
    assert alice.jitctl("-o", "table", "vm", "ls")[1].startswith("NAME")
    alice.environment["JITCTL_PROFILE"] = "none"
    assert alice.jitctl("vm", "ls")[0] == 6
    assert alice.jitctl("--profile", "default", "vm", "ls")[0] == 0
    assert service.requests


@pytest.mark.enable_socket
def test_quiet_is_quiet_but_for_errors(alice: Machine):
    assert alice.jitctl("vm", "connect", "web1", "--print", "--quiet")[2] == ""
    assert alice.jitctl("vm", "connect", "db1", "--quiet")[2].startswith("jitctl: error: ")


@pytest.mark.enable_socket
def test_a_reader_that_goes_away_is_no_error(alice: Machine, service: FakeService):
    service.hosts = [service.host(f"web{number}", "ubuntu") for number in range(3000)]
    command = f"{sys.executable} -m jitgate.cli vm ls | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], env=alice.process_environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0].startswith("NAME")
    assert done.stdout.splitlines()[1] == "141"
    assert done.stderr == ""


def test_a_mistake_of_ours_is_one_line_unless_it_is_debugged(machine: Machine, monkeypatch: pytest.MonkeyPatch):
    def broken(_: object) -> None:
        raise KeyError("x\x1b")

    monkeypatch.setattr(main.root, "invoke", broken)
    status, _, err = machine.jitctl("version")
    assert status == 1
    assert err.splitlines()[0] == "jitctl: error: a mistake in jitctl: KeyError: 'x\\x1b'"
    machine.environment["JITCTL_DEBUG"] = "1"
    with pytest.raises(KeyError):
        machine.jitctl("version")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_a_script_of_that_shell(machine: Machine, shell: str):
    status, script, _ = machine.jitctl("completion", shell)
    assert status == 0
    assert "_JITCTL_COMPLETE" in script
    done = (
        subprocess.run([shell, "-n"], input=script, text=True, capture_output=True, check=False)
        if shell == "bash"
        else None
    )
    assert done is None or (done.returncode, done.stderr) == (0, "")


def test_completion_completes(machine: Machine):
    words = {"_JITCTL_COMPLETE": "bash_complete", "COMP_WORDS": "jitctl vm co", "COMP_CWORD": "2"}
    assert machine.process(**words)[1] == "plain,connect\n"


@pytest.mark.enable_socket
def test_completion_knows_the_hosts_without_asking_the_service(alice: Machine, service: FakeService):
    service.hosts = [service.host(name, "ubuntu") for name in ("web1", "web2", "db1")]
    assert alice.jitctl("vm", "connect", "web1", "--print")[0] == 0
    before = len(service.requests)
    words = {"_JITCTL_COMPLETE": "bash_complete", "COMP_WORDS": "jitctl vm connect we", "COMP_CWORD": "3"}
    assert alice.process(**words)[1] == "plain,web1\nplain,web2\n"
    assert len(service.requests) == before


@pytest.mark.enable_socket
def test_a_terminal_of_another_encoding_is_no_reason_to_fail(alice: Machine, service: FakeService):
    service.hosts[0]["labels"] = {"owner": "\u0142ukasz"}
    status, out, _ = alice.process("vm", "ls", PYTHONIOENCODING="latin-1")
    assert status == 0
    assert "owner=\\u0142ukasz" in out


def test_policy_check_and_manifest(machine: Machine):
    roles = machine.home / "roles"
    roles.mkdir()
    (roles / "web.yaml").write_text(
        "role: web\neffect: allow\nwho: {groups: [ops]}\nwhat: {hosts: ['web*']}\nas: [ubuntu]\nhow_long: {grant: 1h}\n"
        "---\n"
        "role: db\neffect: allow\nwho: {condition: 'true', users: [bob]}\nas: [root]\n"
        "what: {labels: {env: [prod, dev], tier: db}}\n"
        "---\n"
        "role: freeze\neffect: deny\n"
    )
    machine.words["{DIR}"] = str(roles)
    machine.transcript(
        """
        $ jitctl policy check {DIR}
        ROLE    EFFECT  WHO              WHAT                  AS
        web     allow   ops              web*                  ubuntu
        db      allow   bob + condition  env=prod|dev tier=db  root
        freeze  deny    everybody        every host            every login
        jitctl: warning: role freeze forbids everything to everybody in its realm; say who, what or as
        jitctl: sound: roles 3, files 1; digest ...
        """
    )
    status, manifest, err = machine.jitctl("policy", "manifest", str(roles))
    assert status == 0
    digest = err.split()[-1]
    assert json.loads(manifest)["digest"] == digest
    (roles / "manifest.json").write_text(manifest)
    assert json.loads(machine.jitctl("policy", "check", str(roles), "-o", "json")[1])["digest"] == digest
    (roles / "web.yaml").write_text((roles / "web.yaml").read_text().replace("ops", "oops"))
    status, _, err = machine.jitctl("policy", "check", str(roles))
    assert status == 1
    assert "'web.yaml' has changed, by manifest.json" in err
    assert machine.jitctl("policy", "manifest", str(roles))[0] == 0
    assert machine.jitctl("policy", "check", str(roles / "none"))[0] == 6


def test_version(machine: Machine):
    assert machine.jitctl("version")[1] == machine.jitctl("--version")[1] == "jitctl 0.1.0\n"
