"""A play at a hundred hosts by Ansible, as people run them, beside the same play over plain ssh with a key.

Facts are gathered, a file is written and read. Ours has no certificate when it begins; `again`: those of the play
before. Nobody has a connection then.
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
ROUNDS = 2
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
        options, bare = " ".join(with_key(world, hosts)), dict[str, dict[str, object]]((name, {}) for name in names)
        took = []
        for _ in range(ROUNDS):
            with at_home(alice) as person:
                first = _play(person, f"-F {person.config}", bare)
                peer = _play(alice, options, where)
                took.append((first, peer, _play(person, f"-F {person.config}", bare)))
    first, peer, again = (median(column) for column in zip(*took, strict=True))
    yield Row("ansible", f"s, {HOSTS} hosts", first, peer, "ssh with a key", "<= 1.1")
    yield Row("ansible", "s, again", again, peer, "ssh with a key", "<= 1.1")


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
