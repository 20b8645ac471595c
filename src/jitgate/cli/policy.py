"""jitctl policy: looks at role files; what is in force changes only by `jitgate policy apply`."""

from pathlib import Path

import click

from jitgate.cli.command import Command, Options
from jitgate.cli.out import data, say, table
from jitgate.core.errors import Error


@click.command("check", cls=Command, examples="jitctl policy check roles/\njitctl policy check roles/ -o json")
@click.argument("folder")
@click.pass_obj
def check(options: Options, folder: str) -> None:
    """Check the role files in FOLDER as the service does when they are applied. Needs no sign-in.

    Needs the extra `policy`: pip install 'jitgate[policy]'.
    """
    try:
        from jitgate.policy.folder import load_folder  # noqa: PLC0415  # an extra, which may be missing
    except ModuleNotFoundError as error:
        what = f"role files need more than the base install: {error.name} is missing"
        raise Error(what, "pip install 'jitgate[policy]'") from None
    bundle = load_folder(Path(folder).expanduser())
    roles = [rule.role for rule in bundle.rules.values()]
    document = {"digest": bundle.digest, "files": dict(bundle.files), "roles": [role.name for role in roles]}
    rows = [
        (
            role.name,
            role.effect,
            " ".join((*role.who.groups, *role.who.users)),
            " ".join(role.what.hosts),
            " ".join(role.logins),
        )
        for role in roles
    ]
    data(options, document, table(("ROLE", "EFFECT", "WHO", "HOSTS", "AS"), rows))
    say(options, f"{len(roles)} roles in {len(bundle.files)} files are sound; digest {bundle.digest}")
