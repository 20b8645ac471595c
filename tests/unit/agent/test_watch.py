"""The journal as a program prints it, and the folder where PAM's hook writes: what reaches who knows the logins."""

import asyncio
import contextlib
import json
from pathlib import Path
from typing import cast

import pytest
from tests.unit.agent.test_accepted import entry, hooked

from jitgate.agent.accepted import Accepted
from jitgate.agent.logins import Logins
from jitgate.agent.watch import Watch

pytestmark = pytest.mark.enable_socket  # a program's output comes by a pair of sockets


class Told:
    def __init__(self) -> None:
        self.found: list[Accepted] = []

    def entered(self, told: Accepted) -> None:
        self.found.append(told)


def watch(told: Told, state: Path, *journal: str) -> Watch:
    return Watch(cast("Logins", told), state, journal)


async def test_the_journal_is_read_line_by_line_whatever_stands_between(tmp_path: Path):
    """Forged and broken entries, and one longer than any that is looked at, hold up nothing that follows."""
    lines = [entry(), entry(_UID="1000", _PID="1"), b"no json\n", entry(MESSAGE="x" * 600_000), entry(_PID="4712")]
    (tmp_path / "recorded").write_bytes(b"".join(lines))
    told = Told()
    await asyncio.wait_for(watch(told, tmp_path, "cat", str(tmp_path / "recorded"))._follow_once(), 20)
    assert [each.pid for each in told.found] == [4711, 4712]


async def test_a_program_that_is_not_there_is_tried_again(tmp_path: Path):
    task = asyncio.create_task(watch(Told(), tmp_path, str(tmp_path / "missing"))._follow())
    done, _ = await asyncio.wait([task], timeout=0.2)
    assert not done
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def test_what_the_hook_wrote_is_read_once(tmp_path: Path):
    told = Told()
    watching = watch(told, tmp_path)
    watching.folder.mkdir(mode=0o700)
    for name, data in {
        "1.json": hooked(pid=7),
        "2.json": b"torn",
        "3.json": hooked(pid=8),
        "4.new": hooked(pid=9),
    }.items():
        (watching.folder / name).touch(0o600)
        (watching.folder / name).write_bytes(data)
    (watching.folder / "5.json").touch(0o666)
    (watching.folder / "5.json").chmod(0o666)  # not as the hook writes: others could have
    (watching.folder / "5.json").write_text(json.dumps({}))
    await watching._read_folder()
    await watching._read_folder()
    assert [each.pid for each in told.found] == [7, 8]
    assert sorted(path.name for path in watching.folder.iterdir()) == ["4.new"]
