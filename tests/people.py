"""A person at a machine of their own: what they run there, in a home that nothing else uses."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo.world import World

SOURCE = Path(__file__).parents[1] / "src"
Done = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Person:
    """A home of somebody's, and what they run there."""

    home: Path
    world: World

    @property
    def state(self) -> Path:
        return self.home / ".local/state/jitctl/default"

    @property
    def config(self) -> Path:
        return self.home / ".ssh/config"

    @property
    def environment(self) -> dict[str, str]:
        return self.world.environment(self.home) | {"PYTHONPATH": str(SOURCE)}

    def run(self, *command: str, stdin: str = "", **more: str) -> Done:
        return subprocess.run(
            command,
            env=self.environment | more,
            cwd=self.home,
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # no terminal
        )

    def jitctl(self, *arguments: str, status: int = 0, stdin: str = "", **more: str) -> Done:
        done = self.run(sys.executable, "-m", "jitgate.cli", *arguments, stdin=stdin, **more)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return done

    def ssh(self, *arguments: str, status: int = 0, stdin: str = "", **more: str) -> Done:
        """Plain ssh with the person's own config, which includes ours."""
        done = self.run("ssh", "-F", str(self.config), *arguments, stdin=stdin, **more)
        assert done.returncode == status, done.stderr
        return done


def sign_in(world: World, name: str) -> Person:
    """Once in a world, because a code works once."""
    person = Person(world.people[name].home, world)
    password = f"{world.people[name].password.reveal()}\n"
    given = ("--user", name, "--password-file", "-", "--code", world.people[name].code())
    person.jitctl("login", world.url, *given, stdin=password)
    return person
