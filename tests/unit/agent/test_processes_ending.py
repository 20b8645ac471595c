"""Who has to end goes first, one walk serves all, and a scope is ended, and known to be empty, by the kernel."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from jitgate.agent import logins, processes
from jitgate.agent.held import Held
from jitgate.agent.logins import Logins, Seen
from jitgate.agent.processes import Outcome, Process, Snapshot, Tree
from jitgate.hosts.agent_wire import Report
from jitgate.hosts.host_login import How, Login

GRANT, OTHER = "0" * 25 + "1", "0" * 25 + "2"
SCOPE = "/user.slice/user-1000.slice/session-7.scope"
Said = list[Report]


def seen(pid: int, grant: str) -> Seen:
    login = Login(f"{pid:026}", "deploy", "192.0.2.1", 50000 + pid, 0, How.CERTIFICATE, verified=True)
    return Seen(login, Tree(Process(pid, 1), audit=f"{pid}"), grant)


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, in turn. Nothing is found by any walk but what a test says."""
    found: list[str] = []

    def end(trees: list[Tree]) -> dict[Process, Outcome]:
        found.append(f"end {' '.join(tree.audit for tree in trees)}")
        return {tree.monitor: Outcome(1, gone=True) for tree in trees}

    def snapshot(_trees: object) -> Snapshot:
        found.append("walk")
        return Snapshot()

    monkeypatch.setattr(processes, "end", end)
    monkeypatch.setattr(processes, "snapshot", snapshot)
    monkeypatch.setattr(processes, "members", lambda tree, _: [tree.monitor] if tree.audit in ALIVE else [])
    ALIVE.clear()
    return found


ALIVE: set[str] = set()


def known(state: Path, said: Said, ended: Sequence[str]) -> Logins:
    bundle = SimpleNamespace(ended_grants=ended, ended_sessions=(), krl="")
    held = SimpleNamespace(bundle=bundle, krl=None, trust=None)
    return Logins(cast("Held", held), state, lambda: 10**15, str, said.append, lambda _login, _since: [])


def test_who_has_to_end_is_ended_before_one_walk_for_all(steps: list[str], tmp_path: Path):
    all_of = known(tmp_path, [], (GRANT,))
    rows = [seen(pid, OTHER) for pid in range(30)] + [seen(99, GRANT)]
    all_of.seen = {each.tree.monitor: each for each in rows}
    ALIVE.update(each.tree.audit for each in rows[:30])
    all_of.look()
    assert steps == ["end 99", "walk"]
    assert len(all_of.seen) == 30


def test_what_shows_up_after_an_end_ends_and_is_an_alarm_also_after_a_restart(steps: list[str], tmp_path: Path):
    said: Said = []
    first = known(tmp_path, said, (GRANT,))
    first.seen = {Process(99, 1): seen(99, GRANT)}
    first.look()
    after = known(tmp_path, said, (GRANT,))
    after.load()
    steps.clear()
    after.look()
    assert steps == ["walk"]
    ALIVE.add("99")
    after.look()
    assert steps == ["walk", "walk", "end 99"]
    assert [(each.type, each.fields.get("code")) for each in said] == [("logout", None), ("alarm", "outlived")]


def test_a_login_that_was_over_ends_with_its_grant(steps: list[str], tmp_path: Path):
    """Once, and whether or not a walk finds it; until then it may come back, and nobody is ended."""
    ended: list[str] = []
    said: Said = []
    all_of = known(tmp_path, said, ended)
    all_of.seen = {Process(99, 1): seen(99, GRANT)}
    all_of.look()
    assert (list(all_of.seen), [each.type for each in said]) == ([], ["logout"])
    ALIVE.add("99")
    all_of.look()
    assert [each.over for each in all_of.seen.values()] == [True]
    ALIVE.clear()
    all_of.look()
    steps.clear()
    ended.append(GRANT)
    all_of.look()
    all_of.look()
    assert steps == ["end 99", "walk", "walk"]
    assert [each.type for each in said] == ["logout", "alarm"]


def test_of_those_that_are_over_the_newest_are_kept(steps: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logins, "GONE_MAX", 3)
    all_of = known(tmp_path, [], (GRANT,))
    all_of.seen = {Process(pid, 1): seen(pid, GRANT) for pid in range(1, 6)}
    all_of.look()
    assert [each.pid for each in all_of.gone] == [3, 4, 5]
    assert steps[0] == "end 1 2 3 4 5"


def test_a_scope_is_ended_by_the_kernel_and_it_says_when_it_is_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = tmp_path / SCOPE[1:]
    folder.mkdir(parents=True)
    for name in ("cgroup.kill", "cgroup.events"):
        (folder / name).write_text("")
    (tmp_path / "cgroup.controllers").touch()
    monkeypatch.setattr(processes, "CGROUPS", (tmp_path / "none", tmp_path))
    monkeypatch.setattr(processes, "_KILL_S", 0.1)
    monkeypatch.setattr(processes, "_CHASE_S", 0.01)
    tree = Tree(Process(1 << 30, 1), scope=SCOPE)
    (folder / "cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert processes.end([tree]) == {tree.monitor: Outcome(0, gone=False)}
    assert (folder / "cgroup.kill").read_text() == "1"
    (folder / "cgroup.events").write_text("populated 0\nfrozen 0\n")
    began = time.monotonic()
    assert processes.end([tree])[tree.monitor].gone
    assert time.monotonic() - began < 1
    (folder / "cgroup.kill").write_text("")
    # this very process is inside: it is not ended
    monkeypatch.setattr(processes, "_scope", lambda pid: SCOPE if pid == os.getpid() else "")
    processes.end([tree])
    assert (folder / "cgroup.kill").read_text() == ""
