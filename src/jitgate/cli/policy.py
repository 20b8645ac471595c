"""jitctl policy: looks at role files; what is in force changes only by `jitgate policy apply`."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

import click

from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table, warn
from jitgate.core.errors import Error

if TYPE_CHECKING:
    from jitgate.policy.role import Who

P = ParamSpec("P")


def needs_extra(command: Callable[P, None]) -> Callable[P, None]:
    """Says what to install where the extra `policy` is missing; its modules are imported inside the command."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except ModuleNotFoundError as error:
            what = f"role files need more than the base install: {error.name} is missing"
            raise Error(what, "install jitgate with the extra [policy]") from None

    return run


@click.command("check", cls=Command, examples="jitctl policy check roles/\njitctl policy check roles/ -o json")
@click.argument("folder")
@click.pass_obj
@needs_extra
def check(options: Options, folder: str) -> None:
    """Check the role files in FOLDER as the service does when they are applied. Needs no sign-in.

    Needs jitgate's extra `policy`.
    """
    from jitgate.policy.folder import load_folder  # noqa: PLC0415  # see `needs_extra`
    from jitgate.policy.lint import lint  # noqa: PLC0415  # see `needs_extra`

    bundle = load_folder(Path(folder).expanduser())
    roles = [rule.role for rule in bundle.rules.values()]
    remarks = lint(bundle)
    document = {
        "digest": bundle.digest,
        "files": dict(bundle.files),
        "roles": [role.name for role in roles],
        "remarks": [{"role": remark.role, "what": remark.what, "hint": remark.hint} for remark in remarks],
    }
    rows = [
        (
            role.name,
            role.effect,
            _who(role.who),
            " ".join((*role.what.hosts, *(f"{key}={'|'.join(role.what.labels[key])}" for key in role.what.labels)))
            or "every host",
            " ".join(role.logins) or "every login",
        )
        for role in roles
    ]
    data(options, document, table(("ROLE", "EFFECT", "WHO", "WHAT", "AS"), rows))
    for remark in remarks:
        warn(f"role {remark.role} {remark.what}; {remark.hint}")
    say(options, f"sound: roles {len(roles)}, files {len(bundle.files)}; digest {bundle.digest}")


def _who(who: "Who") -> str:
    names = " ".join((*who.groups, *who.users)) or "everybody"
    return " + ".join([names, *(["condition"] if who.condition else []), *(["sources"] if who.sources else [])])


_MANIFEST_EXAMPLES = "jitctl policy manifest roles/ > roles/manifest.json"


@click.command("manifest", cls=Command, examples=_MANIFEST_EXAMPLES)
@click.argument("folder")
@click.pass_obj
@needs_extra
def manifest(options: Options, folder: str) -> None:
    """Print the manifest of the role files in FOLDER: each file's digest, as they are now, after they were checked.

    Put it into the folder as manifest.json when the files were reviewed: `jitgate policy apply` then takes exactly
    these files. A manifest that is there already is not looked at. Needs the extra `policy`.
    """
    from jitgate.policy import folder as folders  # noqa: PLC0415  # see `needs_extra`
    from jitgate.policy.bundle import load_files  # noqa: PLC0415  # see `needs_extra`

    contents = folders.read_folder(Path(folder).expanduser())
    contents.pop(folders.MANIFEST, None)
    bundle = load_files(contents)
    sys.stdout.write(folders.manifest(bundle))
    say(options, f"sound: roles {len(bundle.rules)}, files {len(bundle.files)}; digest {bundle.digest}")
