"""What stands beside the service with `jitgate demo --dex`: Dex, OpenLDAP and OpenBao, all of them real."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from jitgate.app.demo import dex, openldap
from jitgate.app.demo.dex import Dex
from jitgate.app.demo.openbao import OpenBao, open_bao, prepare_registry
from jitgate.app.demo.openldap import Directory, Human
from jitgate.core.secret import Secret

PASSWORD_FILE = "password"  # noqa: S105  # a file's name, in a person's home
DIRECTORY_AGE_S = 2
"""How old an answer of the directory may become: short, so that a leaver is seen in a tour."""
PROVIDER = "dex"
GROUPS: Mapping[str, tuple[str, ...]] = {"alice": ("engineers", "staff"), "bob": ("dba", "staff")}


@dataclass(frozen=True, slots=True)
class Peers:
    """`settings`: what the service's jitgate.toml says of them. `passwords`: of the people in the directory."""

    directory: Directory
    dex: Dex
    bao: OpenBao
    settings: str
    passwords: Mapping[str, Secret[str]]


@contextmanager
def open_peers(folder: Path, passwords: Mapping[str, Secret[str]]) -> Iterator[Peers]:
    """Each in a folder of its own below `folder`. Raises `NotFound` for a program that is missing."""
    with ExitStack() as stack:
        people = [Human(name, password, GROUPS[name]) for name, password in passwords.items()]
        directory = openldap.start(folder / "openldap", people)
        stack.callback(directory.stop)
        provider = dex.start(folder / "dex", directory)
        stack.callback(provider.stop)
        bao = stack.enter_context(open_bao(folder / "openbao"))
        settings = "".join(
            (
                dex.settings_of(provider, PROVIDER, more='groups = "directory"'),
                openldap.settings_of(directory, max_age_s=DIRECTORY_AGE_S),
                prepare_registry(bao, folder / "openbao").table(),
            )
        )
        yield Peers(directory, provider, bao, settings, passwords)
