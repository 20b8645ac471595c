"""Another's list of revoked keys, as text: sshd would refuse every key for a line that is none, so it is not merged."""

from pathlib import Path

import pytest

from jitgate.agent.revoked import read_other
from jitgate.core.errors import BadInput
from jitgate.ssh.krl import parse_krl
from jitgate.ssh.private import generate_ed25519

KEY = generate_ed25519().public
WRONG = ["nonsense", "ssh-ed25519 AAAA", "ssh-ed25519 ~", KEY.line().replace("ssh-ed25519 ", "ssh-rsa ")]


@pytest.mark.parametrize("line", WRONG, ids=["words", "cut", "no base64", "another type"])
def test_a_line_that_is_no_key_is_named(tmp_path: Path, line: str):
    path = tmp_path / "revoked"
    path.write_text(f"# keys\n{KEY.line('lost')}\n\n")
    assert parse_krl(read_other(path)).keys == {KEY.blob}
    path.write_text(f"# keys\n{KEY.line('lost')}\n{line}\n")
    with pytest.raises(BadInput, match="line 3 is no public key"):
        read_other(path)
