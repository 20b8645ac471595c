"""The parts of docs/ that the code knows best: `python -m tools.docs` writes them, `make check` compares them.

docs/jitctl.md and docs/jitgate.md end with the help of every command; docs/openapi.json is the API's description.
"""

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

DOCS = Path(__file__).parent.parent / "docs"
START = "## Commands\n"
WIDTH = 100
# What every jitctl command takes stands once, at the first.
SHARED = re.compile(r" {2}(?:-o, )?--output \[table\|json\|yaml\].*?confirmation is asked\.\n", re.DOTALL)


def help_pages(root: click.Command, name: str) -> str:
    """The help of a program's every command, as Markdown."""
    pages = [START]
    for path, command in _walk(root, (name,)):
        told = dict(root.context_settings) | {"terminal_width": WIDTH, "max_content_width": WIDTH}
        context = click.Context(command, info_name=" ".join(path), **told)
        text = command.get_help(context)
        if len(path) > 1:
            text = SHARED.sub("", text + "\n").rstrip("\n")
        pages.append(f"### {' '.join(path)}\n\n```text\n{text}\n```\n")
    return "\n".join(pages)


def _walk(command: click.Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command, info_name=path[-1])
        for name in command.list_commands(context):
            found = command.get_command(context, name)
            if found is not None:
                yield from _walk(found, (*path, name))


def generated() -> dict[Path, str]:
    """Each file's text as it has to be: what a person wrote, then what the code says."""
    for name in [name for name in os.environ if name.startswith(("JITCTL_", "JITGATE_"))]:
        del os.environ[name]
    from jitgate.api.app import make_api  # noqa: PLC0415  # after the environment is clean: it may set defaults
    from jitgate.app.main import root as jitgate  # noqa: PLC0415
    from jitgate.cli.main import root as jitctl  # noqa: PLC0415

    found = {}
    for name, root in (("jitctl", jitctl), ("jitgate", jitgate)):
        path = DOCS / f"{name}.md"
        found[path] = path.read_text().partition(START)[0] + help_pages(root, name)
    found[DOCS / "openapi.json"] = json.dumps(make_api().openapi(), indent=1, sort_keys=True) + "\n"
    return found


def main() -> int:
    """Writes what differs; with `--check` only says so, and ends with 1."""
    stale = {path: text for path, text in generated().items() if not path.exists() or path.read_text() != text}
    check = "--check" in sys.argv[1:]
    for path, text in stale.items():
        print(f"  {'stale' if check else 'wrote'}: {path.relative_to(DOCS.parent)}")
        if not check:
            path.write_text(text)
    return int(check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
