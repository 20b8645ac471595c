"""jitgate init: a new installation."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from jitgate.app.commands.options import config_option, examples
from jitgate.app.installation import join_installation, make_installation
from jitgate.app.settings import Settings, split_address
from jitgate.core.addresses import is_loopback
from jitgate.core.clock import system_clock
from jitgate.core.errors import Unsafe, UsageError
from jitgate.identity.proof import origin_of


@click.command(
    epilog=examples("""
    jitgate init --url https://jit.example.org
    jitgate init --url https://jit.example.org:8443 --listen 0.0.0.0:8443 --state /var/lib/jitgate
    jitgate init --url https://jit.example.org --tls-certificate /etc/tls/chain.pem --tls-key /etc/tls/key.pem
    jitgate init --url https://jit.example.org --database postgresql://jitgate@db.example.org/jitgate
    jitgate init --url https://jit.example.org --database postgresql://jitgate@db.example.org/jitgate --join /mnt/first
    """)
)
@config_option
@click.option("--url", required=True, help="How people will reach it: https://NAME[:PORT].")
@click.option("--other-url", "other_urls", multiple=True, help="A further address of the same service.")
@click.option("--listen", default="127.0.0.1:8443", show_default=True, metavar="HOST:PORT", help="The one port.")
@click.option("--metrics", default="", metavar="HOST:PORT", help="Where metrics are served; nowhere if left out.")
@click.option(
    "--state", type=click.Path(path_type=Path), default=Path("/var/lib/jitgate"), show_default=True, help="Its folder."
)
@click.option("--database", default="", metavar="URL", help="A PostgreSQL database, instead of a file in the folder.")
@click.option(
    "--join",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="The state folder of another node, or a copy of it: make a further node on its database.",
)
@click.option("--ca-keys", default="", metavar="DIR", help="Folder of the CA keys, if not in the state folder.")
@click.option("--tls-certificate", default="", metavar="FILE", help="A certificate chain instead of a self-made one.")
@click.option("--tls-key", default="", metavar="FILE", help="Its private key.")
def init(
    config: Path,
    url: str,
    other_urls: tuple[str, ...],
    listen: str,
    metrics: str,
    state: Path,
    database: str,
    join: Path | None,
    ca_keys: str,
    tls_certificate: str,
    tls_key: str,
) -> None:
    """Make a new installation: settings, CA keys, TLS authority, database. Overwrites nothing.

    A database of PostgreSQL is there already, and empty. With --join it is that of the other node, whose keys are
    copied; the new node signs by a list of its own.

    Prints the URL that people give to `jitctl login`; with a self-made TLS authority it carries its fingerprint.
    """

    if bool(tls_certificate) != bool(tls_key):
        raise UsageError("--tls-certificate and --tls-key go together")
    if join and not database.startswith("postgresql:"):
        raise UsageError("only nodes on one PostgreSQL database go together", "--database postgresql://USER@HOST/NAME")
    split_address(listen)
    for each in (url, *other_urls):
        origin, host = origin_of(each), urlsplit(each).hostname or ""
        if origin.startswith("http:") and not is_loopback(host):
            raise UsageError("plain http only reaches this machine", f"--url https://{origin.removeprefix('http://')}")
    settings = Settings(
        state=state.absolute(),
        url=origin_of(url),
        other_urls=tuple(origin_of(other) for other in other_urls),
        listen=listen,
        metrics=metrics,
        database=database,
        ca_keys=ca_keys,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    try:
        if join:
            made = join_installation(config, settings, join, system_clock)
        else:
            made = make_installation(config, settings, system_clock)
    except PermissionError as error:
        what = f"{error.filename}: {error.strerror}"
        raise Unsafe(what, "run it as root, or name places of your own: --config FILE --state DIR") from None
    click.echo(f"jitgate: settings in {made.config}, everything else in {settings.state}", err=True)
    click.echo(f"jitgate: next: jitgate serve --config {made.config}", err=True)
    click.echo(made.login_url)
