"""A play at a hundred hosts by Ansible, as people run them, beside the same play over plain ssh with a key.

Facts are gathered, a file is written and read. Ours has neither a certificate nor a connection when it begins.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.bench.rows import Row, median, timed
from tests.bench.ssh import with_key
from tests.interop.plain import ansible_settings, at_home, end_masters, more_hosts, open_plain
from tests.people import Person

HOSTS = 100
FORKS = 20
ROUNDS = 3
TASKS = [
    {"ansible.builtin.copy": {"content": "{{ inventory_hostname }}\n", "dest": "{{ ansible_env.HOME }}/here"}},
    {"ansible.builtin.command": "cat here", "register": "kept"},
    {"ansible.builtin.assert": {"that": "kept.stdout == inventory_hostname"}},
]


def play() -> Iterator[Row]:
    names = [f"node{number}" for number in range(HOSTS)]
    with open_plain() as (world, alice), more_hosts(world, names) as hosts:
        where = {
            name: {"ansible_host": host.address, "ansible_port": host.port}
            for name, host in zip(names, hosts, strict=True)
        }
        options = " ".join(with_key(world, hosts))
        took = []
        for _ in range(ROUNDS):
            with at_home(alice) as person:
                ours = _play(person, f"-F {person.config}", {name: {} for name in names})
            took.append((ours, _play(alice, options, where)))
    yield Row(
        "ansible",
        f"s, {HOSTS} hosts",
        median(a for a, _ in took),
        median(b for _, b in took),
        "ssh with a key",
        "<= 1.1",
    )


def _play(person: Person, ssh: str, hosts: dict[str, dict[str, object]]) -> float:
    """Seconds."""
    with tempfile.TemporaryDirectory(prefix="jg-", dir="/tmp") as name:  # short: it holds the sockets of connections
        folder = Path(name)
        book, inventory = folder / "play.json", folder / "hosts.json"
        book.write_text(json.dumps([{"hosts": "all", "tasks": TASKS}]))
        inventory.write_text(json.dumps({"all": {"hosts": hosts, "vars": {"ansible_user": "ubuntu"}}}))
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "-i", str(inventory), str(book)]
        settings = ansible_settings(folder, ssh, FORKS)
        try:
            return timed(lambda: _run(person, command, settings)) / 1000
        finally:
            end_masters(person, folder)


def _run(person: Person, command: list[str], settings: dict[str, str]) -> None:
    done = person.run(*command, **settings)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
