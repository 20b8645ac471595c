"""jitgate audit: the log, checked offline."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, settings_of, show
from jitgate.app.verify import verify_installation

_GIVE = "what the others signed is not compared; give copies of their lists with --signed"


@click.command(
    epilog=examples("""
    jitgate audit verify
    jitgate audit verify --signed web2.list --signed web3.list
    jitgate audit verify --checkpoint /media/usb/checkpoint.txt --log-key jit.example.org/log+1a2b3c4d+AX...
    """)
)
@config_option
@output_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A checkpoint kept elsewhere: what it covers cannot have been altered unseen.",
)
@click.option("--log-key", help="The log's key as it was noted elsewhere.  [default: the one in the state folder]")
@click.option(
    "--signed",
    "lists",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A copy of another node's signed/signed.list, as old as the file. This node's own is always read.",
)
@click.option("--database", metavar="URL", help="Another database than the settings'.")
@click.pass_context
def verify(
    context: click.Context,
    config: Path,
    output: str,
    checkpoints: tuple[Path, ...],
    log_key: str | None,
    lists: tuple[Path, ...],
    database: str | None,
) -> None:
    """Check every entry of the log against the signed checkpoints and the signers' lists. Changes nothing.

    Finds an entry that was edited, removed, added, moved; a history that was forked or rolled back; a certificate that
    was signed and is not in the log, or is in the log and was not signed. Exit status 1 if anything was found.
    """

    report = verify_installation(
        settings_of(config),
        [path.read_text() for path in checkpoints],
        log_key=log_key,
        database=database,
        lists=lists,
    )
    document = {
        "ok": report.ok,
        "entries": report.frontier.size,
        "covered_by_checkpoints": report.covered,
        "certificates": report.certificates,
        "signed_never_released": report.unreleased,
        "in_flight": report.in_flight,
        "uncompared": report.uncompared,
        "lists": report.lists,
        "nodes": report.nodes,
        "erased": report.erased,
        "findings": [{"kind": f.kind.value, "index": f.index, "words": f.words} for f in report.findings],
        "found": report.found,
    }
    lines = [
        f"entries       {report.frontier.size}, of which checkpoints cover {report.covered}",
        f"certificates  {report.certificates} in the log and in the signers' lists",
        f"burnt         {report.unreleased} signed and never released, {report.in_flight} in flight",
        *(["              look at each: jitctl audit --type certificate.unreleased"] if report.unreleased else []),
        *([f"uncompared    {report.uncompared} logged after the lists were copied"] if report.uncompared else []),
        *([f"lists         {report.lists} of {report.nodes} nodes: {_GIVE}"] if report.lists < report.nodes else []),
        *(f"{f.kind.value:<12}  {f.words}" for f in report.findings),
        "the log is whole" if report.ok else f"NOT WHOLE: {report.found} findings",
    ]
    show(output, document, lines)
    context.exit(0 if report.ok else 1)
