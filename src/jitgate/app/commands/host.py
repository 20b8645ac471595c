"""jitgate host: the hosts that people reach."""

from pathlib import Path

import click

from jitgate.app.commands.options import config_option, examples, output_option, realm_option, settings_of, show
from jitgate.app.operate import operate
from jitgate.cli.out import table
from jitgate.core.errors import BadInput, Conflict, NotFound
from jitgate.core.text import check_name, shown


@click.command(
    epilog=examples("""
    jitgate host add web1 --address 10.0.0.11 --login ubuntu --label env=prod --host-key web1.pub
    jitgate host add db1 --address db1.internal --port 2222 --login deploy --login postgres --host-key db1.pub
    """)
)
@click.argument("name")
@realm_option
@config_option
@output_option
@click.option("--address", required=True, help="An IP address or DNS name.")
@click.option("--port", type=click.IntRange(1, 65535), default=22, show_default=True)
@click.option("--login", "logins", multiple=True, required=True, help="An account that may be opened.")
@click.option("--label", "labels", multiple=True, metavar="KEY=VALUE", help="What roles may ask for.")
@click.option(
    "--host-key",
    type=click.Path(path_type=Path),
    required=True,
    help="The host's public key: /etc/ssh/ssh_host_ed25519_key.pub, fetched by a way you trust.",
)
@click.option("--out", type=click.Path(path_type=Path), help="Where the trust file goes.  [default: NAME.trust]")
def add(
    name: str,
    realm: str,
    config: Path,
    output: str,
    address: str,
    port: int,
    logins: tuple[str, ...],
    labels: tuple[str, ...],
    host_key: Path,
    out: Path | None,
) -> None:
    """Make a host known, and write the trust file that it needs. Nothing is changed on the host itself.

    Then, on the host as root: `jitgate host trust NAME.trust`; or without Python there: `jitgate host trust --print`.
    """

    path = out or Path(f"{check_name('host', name)}.trust")
    if path.exists():
        raise Conflict(f"{path} is there already", "choose another file with --out")
    told = {
        "name": name,
        "realm": realm,
        "address": address,
        "port": port,
        "logins": list(logins),
        "labels": _labels(labels),
        "host_key": _host_key(host_key),
    }
    done = operate(settings_of(config), "host add", told)
    path.write_text(done["trust"])
    show(output, done["host"] | {"trust_file": str(path)}, [str(path)])
    click.echo(f"jitgate: {name} is known; on the host, as root: jitgate host trust {path.name}", err=True)


@click.command(epilog=examples("jitgate host renew web1\njitgate host renew web1 --out /tmp/web1.trust"))
@click.argument("name")
@realm_option
@config_option
@output_option
@click.option("--out", type=click.Path(path_type=Path), help="Where the trust file goes.  [default: NAME.trust]")
def renew(name: str, realm: str, config: Path, output: str, out: Path | None) -> None:
    """Sign a new certificate for a known host, and write its trust file anew: a host certificate lives 90 days.

    Then, on the host as root, the same as the first time: `jitgate host trust NAME.trust`.
    """
    path = out or Path(f"{check_name('host', name)}.trust")
    done = operate(settings_of(config), "host renew", {"name": name, "realm": realm})
    path.write_text(done["trust"])
    show(output, done["host"] | {"trust_file": str(path)}, [str(path)])
    click.echo(f"jitgate: {name} has a new certificate; on the host, as root: jitgate host trust {path.name}", err=True)


@click.command(epilog=examples("jitgate host ls\njitgate host ls -o json"))
@config_option
@output_option
def list_hosts(config: Path, output: str) -> None:
    """List the hosts that are known."""

    hosts = operate(settings_of(config), "host ls", {})["hosts"]
    rows = [
        (
            h["name"],
            h["realm"],
            f"{h['address']}:{h['port']}",
            " ".join(h["logins"]),
            " ".join(f"{key}={value}" for key, value in sorted(h["labels"].items())),
        )
        for h in hosts
    ]
    show(output, hosts, table(("NAME", "REALM", "ADDRESS", "LOGINS", "LABELS"), rows))
    if not hosts:
        click.echo("jitgate: there is no host yet; jitgate host add NAME", err=True)


@click.command(epilog=examples("jitgate host rm web1"))
@click.argument("name")
@realm_option
@config_option
def remove(name: str, realm: str, config: Path) -> None:
    """Forget a host: nothing is issued for it any more. On the host itself: `jitgate host trust FILE --remove`."""

    operate(settings_of(config), "host rm", {"name": name, "realm": realm})
    click.echo(f"jitgate: {name} is forgotten; on the host: jitgate host trust FILE --remove", err=True)


def _host_key(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        what = f"cannot read {path}: {error.strerror}"
        raise NotFound(what, "copy it from the host: /etc/ssh/ssh_host_ed25519_key.pub") from None


def _labels(texts: tuple[str, ...]) -> dict[str, str]:

    labels: dict[str, str] = {}
    for text in texts:
        key, sign, value = text.partition("=")
        if not sign or key in labels:
            raise BadInput(f"not a label, or one that stands twice: {shown(text)}", "write --label key=value")
        labels[key] = value
    return labels
