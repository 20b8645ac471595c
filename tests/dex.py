"""Real Dex with real OpenLDAP behind it, and a person at its pages without a browser.

BROWSER='python -m tests.dex NAME PASSWORD %s' jitctl login ...
"""

import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2

from jitgate.app.demo import dex as real_dex
from jitgate.app.demo import openldap
from jitgate.app.demo.dex import Dex
from jitgate.app.demo.openldap import Directory, Human
from jitgate.core.secret import Secret

PASSWORDS = {"alice": "correct horse", "bob": "battery staple", "nora": "tunnel under"}
PEOPLE = (
    Human("alice", Secret(PASSWORDS["alice"]), ("engineers",)),
    Human("bob", Secret(PASSWORDS["bob"]), ("dba", "admins")),
    Human("nora", Secret(PASSWORDS["nora"])),
)
_STEPS_MAX = 12


@dataclass
class Provider:
    """`dex` is another one after `rotate`."""

    directory: Directory
    dex: Dex

    def rotate(self, life: str = "10m") -> None:
        self.dex = real_dex.restart(self.dex, self.directory, life=life)


@contextmanager
def open_provider(life: str = "10m") -> Iterator[Provider]:
    with tempfile.TemporaryDirectory(prefix="jitgate-dex-") as folder:
        directory = openldap.start(Path(folder) / "ldap", PEOPLE)
        try:
            provider = Provider(directory, real_dex.start(Path(folder) / "dex", directory, life=life))
            try:
                yield provider
            finally:
                provider.dex.stop()
        finally:
            directory.stop()


def visit(url: str, name: str, password: str, *, stop_at: str = "") -> tuple[str, str]:
    """What a browser does with a person in front of it: the last address and the text of the page there.

    Forms are filled with name and password and sent; `stop_at`: an address beginning so is not visited any more.
    """
    with httpx2.Client(timeout=20) as client:
        response = client.get(url)
        for _ in range(_STEPS_MAX):
            if (where := response.headers.get("location")) is not None:
                to = urljoin(str(response.url), where)
                if stop_at and to.startswith(stop_at):
                    return to, ""
                response = client.get(to)
            elif (form := _form(response.text)) and "Invalid" not in response.text:
                action, fields = form
                filled = {"login": name, "password": password}
                told = {field: filled.get(field, value) for field, value in fields.items()}
                response = client.post(urljoin(str(response.url), action), data=told)
            else:
                break
        return str(response.url), response.text


def _form(page: str) -> tuple[str, dict[str, str]] | None:
    if (found := re.search(r'<form[^>]*method="post"(.*?)</form>', page, re.DOTALL)) is None:
        return None
    start = page[page.rindex("<form", 0, found.end()) :]
    action = re.search(r'action="([^"]*)"', start.partition(">")[0])
    fields: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", found[1]):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in attributes:
            fields[attributes["name"]] = unescape(attributes.get("value", ""))
    return unescape(action[1]) if action else "", fields


def path_of(url: str) -> str:
    return urlsplit(url).path


if __name__ == "__main__":
    print(visit(sys.argv[3], sys.argv[1], sys.argv[2])[1])  # noqa: T201  # what the person would see
