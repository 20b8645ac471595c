"""A tour's step: a command is run as it is printed, and what comes out is compared with what is claimed."""

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from jitgate.app.demo.world import World
from jitgate.core.errors import Error

STATE = Path(".local/state/jitctl/default")
DENIED, ENDED = 4, 7  # exit statuses of jitctl


class StepFailed(Error):
    """A step of the tour did not do what it says."""


JITCTL = (sys.executable, "-m", "jitgate.cli")
JITGATE = (sys.executable, "-m", "jitgate")


def jitctl(
    world: World, home: Path, arguments: Sequence[str], *, shown: Sequence[str] = (), status: int = 0, expect: str = ""
) -> None:
    show(world, home, [*JITCTL, *arguments], shown=["jitctl", *(shown or arguments)], status=status, expect=expect)


def jitgate(world: World, arguments: Sequence[str], *, status: int = 0, expect: str = "") -> None:
    show(world, world.folder, [*JITGATE, *arguments], shown=["jitgate", *arguments], status=status, expect=expect)


def show(
    world: World,
    home: Path,
    command: Sequence[str],
    *,
    shown: Sequence[str] = (),
    into: str = "",
    status: int = 0,
    expect: str = "",
) -> None:
    """Print a command, run it, print what came, hold it against the claim. `into`: the file that its output goes to."""
    redirected = f" > {into}" if into else ""
    click.echo(click.style(f"  $ {shlex.join(shown or command)}{redirected}", bold=True))
    done = run(world, home, command, check=False)
    for line in (done.stderr + done.stdout).splitlines():
        click.echo(f"    {line}")
    if status:
        click.echo(f"    (exit status {done.returncode})")
    expect_that(done.returncode == status, f"exit status {done.returncode} instead of {status}")
    expect_that(expect in done.stdout + done.stderr, f"the output does not say {expect!r}")


def run(world: World, home: Path, command: Sequence[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        env=world.environment(home),
        cwd=home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if check:
        expect_that(done.returncode == 0, f"{shlex.join(command)}: {done.stderr}")
    return done


def say(text: str) -> None:
    click.echo(f"\n{click.style('==', fg='green', bold=True)} {text}")


def note(text: str) -> None:
    click.echo(f"    {text}")


def expect_that(holds: bool, otherwise: str) -> None:  # noqa: FBT001  # it reads as an assertion
    if not holds:
        raise StepFailed(f"the tour stops here: {otherwise}", "this is a bug: report it with the output above")
