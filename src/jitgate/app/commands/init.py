"""jitgate init: a new installation."""

from pathlib import Path
from urllib.parse import urlsplit

import click

from jitgate.app.commands.options import config_option, examples
from jitgate.app.installation import make_installation
from jitgate.app.settings import Settings, split_address
from jitgate.cli.profile import is_loopback
from jitgate.core.clock import system_clock
from jitgate.core.errors import Unsafe, UsageError
from jitgate.identity.proof import origin_of


@click.command(
    epilog=examples("""
    jitgate init --url https://jit.example.org
    jitgate init --url https://jit.example.org:8443 --listen 0.0.0.0:8443 --state /var/lib/jitgate
    jitgate init --url https://jit.example.org --tls-certificate /etc/tls/chain.pem --tls-key /etc/tls/key.pem
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
    ca_keys: str,
    tls_certificate: str,
    tls_key: str,
) -> None:
    """Make a new installation: settings, CA keys, TLS authority, database. Overwrites nothing.

    Prints the URL that people give to `jitctl login`; with a self-made TLS authority it carries its fingerprint.
    """

    if bool(tls_certificate) != bool(tls_key):
        raise UsageError("--tls-certificate and --tls-key go together")
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
        ca_keys=ca_keys,
        tls_certificate=tls_certificate,
        tls_key=tls_key,
    )
    try:
        made = make_installation(config, settings, system_clock)
    except PermissionError as error:
        what = f"{error.filename}: {error.strerror}"
        raise Unsafe(what, "run it as root, or name places of your own: --config FILE --state DIR") from None
    click.echo(f"jitgate: settings in {made.config}, everything else in {settings.state}", err=True)
    click.echo(f"jitgate: next: jitgate serve --config {made.config}", err=True)
    click.echo(made.login_url)
