"""jitgate policy: who may do what."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import pairs
from jitgate.core.errors import BadInput
from jitgate.policy.folder import MANIFEST, load_folder
from jitgate.policy.lint import lint


@click.command(
    epilog=examples("""
    jitctl policy check roles/
    jitgate policy apply roles/
    """)
)
@click.argument("folder", type=click.Path(path_type=Path))
@config_option
@output_option
@click.option("--without-manifest", is_flag=True, help="Take a folder that has no manifest.json.")
def apply(folder: Path, config: Path, output: str, *, without_manifest: bool) -> None:
    """Put a folder of role files in force, whole or not at all.

    The folder carries manifest.json, made where the roles were reviewed (`jitctl policy manifest`), with the digest of
    each file: so a folder that was copied by half, and may have lost a denial, is refused.
    """

    bundle = load_folder(folder)
    if not without_manifest and not (folder / MANIFEST).is_file():
        raise BadInput(
            f"{folder} has no {MANIFEST}",
            f"jitctl policy manifest {folder} > {folder}/{MANIFEST}, or --without-manifest",
        )
    done = operate(settings_of(config), "policy apply", {"bundle": bundle.text})
    changes = [(word, name) for word in ("added", "changed", "removed") for name in done[word]]
    lines = pairs([("digest", done["digest"]), ("roles", str(done["roles"])), *changes])
    show(output, done, lines)
    if not changes:
        click.echo("jitgate: it was in force already", err=True)
    for remark in lint(bundle):
        click.echo(f"jitgate: warning: role {remark.role} {remark.what}; {remark.hint}", err=True)
    for name in done["lost_denials"]:
        click.echo(f"jitgate: warning: the deny rule {name} is gone", err=True)
    for name in done["changed_denials"]:
        click.echo(f"jitgate: warning: the deny rule {name} was changed and may forbid less", err=True)
