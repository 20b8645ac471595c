"""jitgate ca backup: a CA key that lies in a drawer, and that everybody trusts already."""

import sys
import time
from pathlib import Path

import click

from jitgate.app.backup import drill, make_backup, open_backup
from jitgate.app.commands.options import config_option, examples, output_option, realm_option, settings_of, show
from jitgate.app.key_files import bring_key, first_file, trust_elsewhere
from jitgate.app.operate import operate
from jitgate.ca.realms import CaKind
from jitgate.core.errors import BadInput, Conflict
from jitgate.core.secret import Secret
from jitgate.ssh.pubkey import parse_public_key_line

PASSPHRASE_MAX = 1024
SEEN_S = 3.0  # the signer looks at its rules once a second, and follows what it saw twice

_passphrase = click.option(
    "--passphrase-file", metavar="FILE", help="Read the passphrase from FILE (- is stdin) instead of asking."
)
_file = click.argument("file", type=click.Path(path_type=Path))


@click.command(epilog=examples("jitgate ca backup make /media/stick/user_ca-backup --kind user"))
@_file
@click.option("--kind", type=click.Choice([CaKind.USER.value, CaKind.HOST.value]), required=True)
@realm_option
@config_option
@output_option
@_passphrase
def make(file: Path, kind: str, realm: str, config: Path, output: str, passphrase_file: str | None) -> None:
    """Make a backup CA key in FILE, sealed by a passphrase, and have it trusted from now on.

    Hosts learn it as every listed key. Take FILE away from this machine: whoever has it and its passphrase is the CA.
    """
    settings = settings_of(config)
    if file.resolve().parent in (settings.keys_folder.resolve(), settings.state.resolve()):
        raise BadInput(f"{file} would lie where the signer's keys lie", "name a place that goes offline: a stick")
    if file.exists():
        raise Conflict(f"{file} is there already", "choose another file")
    known = {each["name"] for each in operate(settings, "realm ls", {})["realms"]}
    if realm not in known:
        raise BadInput(f"no realm {realm}", f"there is {', '.join(sorted(known))}")
    key = make_backup(file, _asked(passphrase_file, confirm=True))
    trust_elsewhere(settings, realm, CaKind(kind), key.public)
    time.sleep(SEEN_S)
    told = {"key": key.public.fingerprint, "line": key.public.line(), "kind": kind, "realm": realm}
    done = operate(settings, "ca add", told)
    show(output, done, [done["fingerprint"]])
    click.echo(f"jitgate: trusted for {kind} certificates of {realm}; take {file} off this machine", err=True)
    click.echo(f"jitgate: when the hosts have it: jitgate ca backup drill {file}", err=True)


@click.command("drill", epilog=examples("jitgate ca backup drill /media/stick/user_ca-backup"))
@_file
@config_option
@output_option
@_passphrase
def drill_key(file: Path, config: Path, output: str, passphrase_file: str | None) -> None:
    """Prove that hosts take what the key in FILE signs; no real host is opened, and the signer gets nothing.

    Starts an sshd of its own on this machine, which trusts what the realm's hosts are told to trust, and logs in there.
    Names the hosts that were not told of the key yet.
    """
    settings = settings_of(config)
    key = open_backup(file, _asked(passphrase_file))
    print_ = key.public.fingerprint
    facts = operate(settings, "ca backup facts", {"key": print_})
    trusted = [parse_public_key_line(line)[0] for line in facts["trusted"]]
    drill(key, CaKind(facts["kind"]), facts["realm"], trusted, facts["hosts"])
    operate(settings, "ca backup drilled", {"key": print_})
    show(output, facts | {"fingerprint": print_}, [print_])
    click.echo(f"jitgate: an sshd that trusts what {facts['realm']} trusts took what it signed", err=True)
    if facts["without"]:
        names = " ".join(facts["without"])
        click.echo(f"jitgate: hosts that were not told of it yet: {names} (jitgate host renew, host trust)", err=True)


@click.command(epilog=examples("jitgate ca backup bring /media/stick/user_ca-backup"))
@_file
@config_option
@output_option
@_passphrase
def bring(file: Path, config: Path, output: str, passphrase_file: str | None) -> None:
    """Put the key in FILE into the signer's folder, when the one that signs is lost or stolen.

    It signs when you say so: jitgate ca rotate start --emergency --key NAME. Then make another backup.
    """
    settings = settings_of(config)
    key = open_backup(file, _asked(passphrase_file))
    facts = operate(settings, "ca backup facts", {"key": key.public.fingerprint})
    mark = "".join(filter(str.isalnum, key.public.fingerprint.partition(":")[2]))[:8]
    name = f"{first_file(facts['realm'], CaKind(facts['kind']))}-backup-{mark}"
    bring_key(settings, name, key)
    show(output, {"file": name, "fingerprint": key.public.fingerprint}, [name])
    realm = f" --realm {facts['realm']}" if facts["realm"] != "default" else ""
    start = f"jitgate ca rotate start --kind {facts['kind']}{realm} --key {name}"
    click.echo(f"jitgate: in a few seconds: {start} (--emergency for a stolen key)", err=True)


def _asked(file: str | None, *, confirm: bool = False) -> Secret[bytes]:
    if file is None:
        text: str = click.prompt("passphrase", hide_input=True, confirmation_prompt=confirm, err=True)
        return Secret(text.encode())
    if file == "-":
        content = sys.stdin.buffer.read(PASSPHRASE_MAX)
    else:
        with Path(file).open("rb") as opened:
            content = opened.read(PASSPHRASE_MAX)
    return Secret(content.rstrip(b"\n"))
