"""Real Dex with real OpenLDAP behind it, and a person at its pages without a browser.

BROWSER='python -m tests.dex NAME PASSWORD %s' jitctl login ...
"""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo import dex as real_dex
from jitgate.app.demo import openldap, person
from jitgate.app.demo.dex import Dex
from jitgate.app.demo.openldap import Directory, Human
from jitgate.core.secret import Secret

PASSWORDS = {"alice": "correct horse", "bob": "battery staple", "nora": "tunnel under"}
PEOPLE = (
    Human("alice", Secret(PASSWORDS["alice"]), ("engineers",)),
    Human("bob", Secret(PASSWORDS["bob"]), ("dba", "admins")),
    Human("nora", Secret(PASSWORDS["nora"])),
)


@dataclass
class Provider:
    """`dex` is another one after `rotate`."""

    directory: Directory
    dex: Dex

    def rotate(self, life: str = "10m") -> None:
        self.dex = real_dex.restart(self.dex, self.directory, life=life)


@contextmanager
def open_provider(life: str = "10m", tls: tuple[Path, Path] | None = None) -> Iterator[Provider]:
    with tempfile.TemporaryDirectory(prefix="jitgate-dex-") as folder:
        directory = openldap.start(Path(folder) / "ldap", PEOPLE)
        try:
            provider = Provider(directory, real_dex.start(Path(folder) / "dex", directory, life=life, tls=tls))
            try:
                yield provider
            finally:
                provider.dex.stop()
        finally:
            directory.stop()


def visit(url: str, name: str, *, stop_at: str = "", ca: Path | None = None) -> tuple[str, str]:
    """`person.visit` by one of ours."""
    return person.visit(url, name, Secret(PASSWORDS[name]), stop_at=stop_at, ca=ca)


if __name__ == "__main__":
    print(person.visit(sys.argv[3], sys.argv[1], Secret(sys.argv[2]))[1])  # noqa: T201  # what the person would see
