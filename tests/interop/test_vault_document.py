"""A guide to Vault's SSH engine, run as its readers type it: the real `bao`, under the name `vault`, a real sshd.

The guide restarts sshd by systemd; here the test's own sshd reads its files again. What the guide types at prompts, the
test types at prompts, on a terminal.
"""

import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest
from tests.service import Nursery, Service
from tests.vaults import SETTING, Client, admin_token, vault_service

from jitgate.app.local_sshd import LocalHost

pytestmark = pytest.mark.timeout(180)  # the real client is a program of 200 MB, started anew for each command

GUIDE = (Path(__file__).parents[1] / "vectors" / "vault" / "guide.md").read_text()
BLOCKS = dict(re.findall(r"^## (\S+)\n```\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL))
DROP_IN = "TrustedUserCAKeys {etc}/ca/trusted_user_ca_keys.pem\n"


@pytest.fixture(scope="module", params=[("rsa", 3072), ("ed25519", 256)], ids=["rsa-3072", "ed25519"])
def kind(request: pytest.FixtureRequest) -> tuple[str, int]:
    found: tuple[str, int] = request.param
    return found


@pytest.fixture
def service(nursery: Nursery, tmp_path: Path) -> Iterator[Service]:
    folder = tmp_path / "audit"
    with vault_service(nursery, more=f'audit_folder = "{folder}"\n', tls=True) as started:
        yield started


class Reader:
    """Somebody with the guide: an administrator at first, and then its testuser."""

    def __init__(self, service: Service, home: Path, host: LocalHost, kind: tuple[str, int]) -> None:
        self.client = Client(service, home)
        self.client.environment["VAULT_CACERT"] = str(service.state / "tls" / "ca.pem")
        self.host, self.home = host, home
        name, bits = kind
        key = home / ".ssh" / "id_rsa"
        self.client.ok(f"ssh-keygen -q -t {name} -b {bits} -N '' -f {key}")
        # ssh looks for ~/.ssh in the password file's home, not in HOME
        self.client.ok(f"printf '#!/bin/sh\\nexec {shlex.quote(self._ssh())} -F ~/.ssh/config \"$@\"\\n' > bin/ssh")
        (self.client.bin / "ssh").chmod(0o755)
        known = home / ".ssh" / "known_hosts"
        known.write_text(f"server-hostname {host.host_key}\n")
        (home / ".ssh" / "config").write_text(
            f"Host server-hostname web.example.com\n  HostName {host.address}\n  Port {host.port}\n"
            f"  HostKeyAlias server-hostname\n  UserKnownHostsFile {known}\n  StrictHostKeyChecking yes\n"
            "  IdentitiesOnly yes\n  IdentityAgent none\n  BatchMode yes\n"
        )

    def _ssh(self) -> str:
        return self.client.ok("PATH=${PATH#*:} command -v ssh").strip()

    def does(self, block: str) -> str:
        return self.client.ok(BLOCKS[block])

    def types(self, command: str, *answers: tuple[str, str]) -> str:
        """At a terminal: prompts and what is typed."""
        child = pexpect.spawn(
            "bash", ["-c", command], env=self.client.environment, cwd=str(self.home), timeout=30, encoding="utf-8"
        )
        said = child.logfile_read = io.StringIO()
        for prompt, answer in answers:
            child.expect(prompt)
            child.sendline(answer)
        child.read()
        child.close()
        assert child.exitstatus == 0, said.getvalue()
        return said.getvalue()

    def trust(self) -> None:
        """Step 3: what the guide has copied and written on the server, and a restart."""
        etc = self.host.etc
        (etc / "ca").mkdir(exist_ok=True)
        (etc / "ca" / "trusted_user_ca_keys.pem").write_text((self.home / "ca.pub").read_text())
        (etc / "sshd_config.d" / "10-vault.conf").write_text(DROP_IN.format(etc=etc))
        self.host.reload()


def test_the_guide_from_its_first_secrets_enable(
    service: Service, tmp_path: Path, start_sshd: Callable[..., LocalHost], kind: tuple[str, int]
):
    host = start_sshd("server-hostname", "ubuntu", "jenkins")
    reader = Reader(service, tmp_path / "home", host, kind)
    reader.types(BLOCKS["login"], ("will be hidden", admin_token(service)))
    reader.does("engine")
    assert "allowed_users is *" in reader.client.sh(BLOCKS["role"]).stderr
    reader.does("trust")
    reader.trust()
    reader.does("users")

    reader.types(BLOCKS["user-login"], ("will be hidden", "changeMe123"))
    shown = reader.does("sign")
    assert "ubuntu" in shown
    assert "permit-pty" in shown
    assert "@host:" not in shown
    connect = BLOCKS["connect"].strip()
    assert "ubuntu" in reader.client.ok(f"{connect} 'echo $USER on $LOCAL_HOST'")
    accepted = next(line for line in host.log_text().splitlines() if "Accepted publickey for ubuntu" in line)
    assert "jitgate grant=" in accepted

    script = tmp_path / "home" / "get-ssh-cert.sh"
    script.write_text(BLOCKS["get-ssh-cert.sh"])
    script.chmod(0o755)
    assert "Certificate issued successfully" in reader.client.ok("./get-ssh-cert.sh")
    reader.client.ok("vault token revoke -self")
    (tmp_path / "home" / ".ssh" / "id_rsa-cert.pub").unlink()
    said = reader.types("./get-ssh-cert.sh", ("will be hidden", "changeMe123"))
    assert "Not logged in" in said
    assert "Valid until: " in said

    with (tmp_path / "home" / ".ssh" / "config").open("a") as file:
        file.write(BLOCKS["ssh-config"].replace("~", str(tmp_path / "home")))  # as above: not HOME
    assert "server-hostname" in reader.client.ok("ssh ubuntu@web.example.com 'echo $LOCAL_HOST'")

    # a user's token does none of what follows
    for block in ("activity", "audit", "emergency", "automation"):
        refused = reader.client.sh(BLOCKS[block])
        assert refused.returncode == 2, block
        assert "permission denied" in refused.stderr
    reader.types(BLOCKS["login"], ("will be hidden", admin_token(service)))
    assert "recent_certificates" in reader.does("activity")
    reader.does("audit")
    reader.does("emergency")
    reader.does("automation")
    _emergency_and_automation(reader)
    _logged(service, tmp_path)


def _emergency_and_automation(reader: Reader) -> None:
    """Neither role has a default_user: without a principal nothing is signed, and it is said why."""
    sign = "vault write -field=signed_key ssh/sign/{} public_key=@$HOME/.ssh/id_rsa.pub"
    for role in ("emergency", "automation"):
        refused = reader.client.sh(sign.format(role))
        assert refused.returncode == 2
        assert "empty valid principals not allowed by role" in refused.stderr
    assert (
        "is not a valid value for valid_principals"
        in reader.client.sh(sign.format("automation") + " valid_principals=root").stderr
    )
    reader.client.ok(sign.format("automation") + " valid_principals=jenkins > ~/.ssh/id_rsa-cert.pub")
    assert "jenkins" in reader.client.ok("ssh -i ~/.ssh/id_rsa jenkins@server-hostname 'echo $USER'")
    reader.client.ok(sign.format("emergency") + " valid_principals=ubuntu > ~/.ssh/id_rsa-cert.pub")
    assert "ubuntu" in reader.client.ok("ssh -i ~/.ssh/id_rsa ubuntu@server-hostname 'echo $USER'")


def _logged(service: Service, folder: Path) -> None:
    """Every act is in the log with the setting's name, and in the file of the audit device; no secret is in either."""
    lines = [json.loads(line) for line in (folder / "audit" / "audit.log").read_text().splitlines()]
    assert {line["request"]["path"] for line in lines} >= {"ssh/roles/emergency", "ssh/sign/automation"}
    assert "changeMe123" not in (folder / "audit" / "audit.log").read_text()
    from sqlalchemy import create_engine, text  # noqa: PLC0415  # only here

    engine = create_engine(service.settings.database_url)
    with engine.connect() as connection:
        leaves = [json.loads(row[0]) for row in connection.execute(text('SELECT leaf FROM event ORDER BY "index"'))]
    engine.dispose()
    mine = [leaf for leaf in leaves if leaf["type"].startswith("vault.") or leaf["realm"].startswith("vault-")]
    assert {leaf["type"] for leaf in mine} >= {
        "vault.mounted",
        "vault.written",
        "vault.token_made",
        "vault.token_ended",
        "vault.refused",
        "grant.opened",
        "certificate.issued",
        "certificate.refused",
    }
    without = [leaf["type"] for leaf in mine if leaf.get("detail", {}).get("setting") != SETTING]
    assert set(without) <= {"ca.key_added"}, without
    assert "changeMe123" not in json.dumps(leaves)
