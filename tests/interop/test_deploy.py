"""Many hosts: the Ansible role and the cloud-init snippet of `deploy/`, run by Ansible and step by step."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.people import Person, sign_in

from jitgate.app.demo.world import World, open_world

DEPLOY = Path(__file__).parents[2] / "deploy"
PROGRAMS = Path(sys.executable).parent
LOGINS = {"web1": ["ubuntu", "deploy"], "db1": ["postgres"]}


@pytest.fixture
def bob(programs: Mapping[str, Path]) -> Iterator[Person]:
    """He runs two hosts that never heard of jitgate."""
    assert programs
    with (
        tempfile.TemporaryDirectory(prefix="jitgate-test-") as folder,
        open_world(Path(folder), trusted=False) as world,
    ):
        yield sign_in(world, "bob")


def options(world: World, name: str) -> list[str]:
    host = world.hosts[name]
    place = [f"--state={world.folder / name / 'agent'}", f"--etc={host.etc}"]
    return [*place, f"--sshd={host.own_sshd()}", f"--reload={host.reload_command()}"]


def play(bob: Person, **more: Any) -> subprocess.CompletedProcess[str]:
    """The playbook of `deploy/ansible`, at both hosts; without systemd, which tests have not."""
    world = bob.world
    hosts = {
        name: {
            "jitgate_logins": LOGINS[name],
            "jitgate_labels": {"tier": name.rstrip("1"), "env": "prod"},
            "jitgate_address": host.address,
            "jitgate_port": host.port,
            "jitgate_program": str(PROGRAMS / "jitgate"),
            "jitgate_jitctl": str(PROGRAMS / "jitctl"),
            "jitgate_agent_toml": str(world.folder / name / "agent/agent.toml"),
            "jitgate_join_options": options(world, name),
            "jitgate_agent_service": False,
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            **more,
        }
        for name, host in world.hosts.items()
    }
    inventory, config = world.folder / "inventory.json", world.folder / "none.cfg"
    inventory.write_text(json.dumps({"all": {"hosts": hosts}}))
    config.touch()
    settings = {
        "ANSIBLE_CONFIG": str(config),
        "ANSIBLE_HOME": str(world.folder / "ansible"),
        "ANSIBLE_BECOME_ASK_PASS": "false",
        "ANSIBLE_NOCOLOR": "true",
    }
    become = ["-e", json.dumps({"ansible_become": False})]
    command = [str(PROGRAMS / "ansible-playbook"), "-vvv", "-i", str(inventory), *become]
    return bob.run(*command, str(DEPLOY / "ansible/hosts-join.yml"), **settings)


def fleet(bob: Person) -> dict[str, Any]:
    done = bob.run(str(PROGRAMS / "jitctl"), "hosts", "ls", "-o", "json")
    return {host["name"]: host for host in json.loads(done.stdout)["hosts"]}


def test_hosts_join_by_the_role_and_a_second_play_changes_nothing(bob: Person):
    done = play(bob)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "jgj_" not in done.stdout + done.stderr
    assert {name: host["logins"] for name, host in fleet(bob).items()} == LOGINS
    assert fleet(bob)["db1"]["labels"] == {"env": "prod", "tier": "db"}
    for host in bob.world.hosts.values():
        assert "trustedusercakeys" in host.run_sshd("-T").stdout
    again = play(bob)
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("changed=0") == len(LOGINS)


def test_the_role_says_why_a_host_does_not_join(bob: Person):
    done = play(bob, jitgate_realm="elsewhere")
    assert done.returncode != 0
    assert "no realm 'elsewhere'" in done.stdout
    shutil.rmtree(bob.world.folder / "ansible")
    done = play(bob, jitgate_logins=[])
    assert "which accounts of web1 may be opened?" in done.stdout
    assert fleet(bob) == {}


def steps(text: str, replaced: Mapping[str, str]) -> tuple[list[dict[str, Any]], list[Sequence[str]]]:
    """What cloud-init's `write_files` and `runcmd` say, at other places."""
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    found = yaml.safe_load(text)
    assert found.keys() == {"write_files", "runcmd"}
    return found["write_files"], found["runcmd"]


def test_a_machine_joins_at_its_first_start(bob: Person):
    world = bob.world
    host, calls = world.hosts["web1"], world.folder / "calls"
    add = ["hosts", "add", "web1", "--login=ubuntu", f"--address={host.address}", f"--port={host.port}"]
    token = bob.run(str(PROGRAMS / "jitctl"), *add).stdout.strip()
    stand_ins = world.folder / "bin"
    stand_ins.mkdir()
    join = shlex.join(options(world, "web1"))
    for name, line in {
        "jitgate": f'exec {PROGRAMS / "jitgate"} "$@" {join}',
        "systemctl": f'echo "$@" >> {calls}',
    }.items():
        (stand_ins / name).write_text(f"#!/bin/sh\n{line}\n")
        (stand_ins / name).chmod(0o755)
    text = (DEPLOY / "cloud-init/user-data.yaml").read_text()
    assert text.startswith("#cloud-config\n")
    places = {"/opt/jitgate/bin": str(stand_ins), "/run/jitgate-join-token": str(world.folder / "join-token")}
    files, commands = steps(text, places | {"PUT-THE-TOKEN-HERE": token})
    for file in files:
        Path(file["path"]).write_text(file["content"])
        Path(file["path"]).chmod(int(file["permissions"], 8))
    for command in commands:
        done = bob.run(*command, PATH=f"{stand_ins}:{os.environ['PATH']}")
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(fleet(bob)) == ["web1"]
    assert not (world.folder / "join-token").exists()
    assert calls.read_text() == "enable --now jitgate-agent\n"
