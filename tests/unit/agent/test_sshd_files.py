"""sshd's files as the doctor reads them: in sshd's order, with the Match that a line stands in."""

from pathlib import Path

import pytest

from jitgate.agent import revoked
from jitgate.agent.link import Backoff
from jitgate.agent.revoked import merged, other_lists, read_other
from jitgate.agent.sshd import Sshd
from jitgate.core.errors import BadInput, Error, Unsafe
from jitgate.ssh.krl import Krl, dump_krl, parse_krl
from jitgate.ssh.private import generate_ed25519

KEY = generate_ed25519().public


def read(etc: Path, **files: str) -> list[tuple[str, str, str]]:
    for name, text in files.items():
        (etc / name).write_text(text.replace("ETC", str(etc)))
    return [(each.keyword, each.value, each.match) for each in Sshd(etc, "sshd", "true").settings()]


def test_lines_are_read_as_sshd_does(tmp_path: Path):
    text = '# a\n\n  Port 22\r\nPasswordAuthentication=no\n"RevokedKeys" "/a b"\nMATCH User a,b\n\tX11Forwarding yes\n'
    assert read(tmp_path, sshd_config=text) == [
        ("port", "22", ""),
        ("passwordauthentication", "no", ""),
        ("revokedkeys", "/a b", ""),
        ("match", "User a,b", "User a,b"),
        ("x11forwarding", "yes", "User a,b"),
    ]


def test_includes_are_followed_in_order_and_a_match_ends_with_its_file(tmp_path: Path):
    found = read(
        tmp_path,
        **{
            "sshd_config": "Include ETC/*.conf\nPort 3\nMatch all\nInclude ETC/last\n",
            "b.conf": "Port 2\nMatch User x\nPort 22\n",
            "a.conf": "Port 1\n",
            "last": "Port 4\n",
        },
    )
    assert [(value, match) for keyword, value, match in found if keyword == "port"] == [
        ("1", ""),
        ("2", ""),
        ("22", "User x"),
        ("3", ""),
        ("4", "all"),
    ]


def test_a_file_that_includes_itself_ends(tmp_path: Path):
    with pytest.raises(BadInput, match="too many"):
        read(tmp_path, sshd_config="Include ETC/sshd_config\n")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RevokedKeys /a\n", ["/a"]),
        ("RevokedKeys none\n", []),
        ("RevokedKeys /a\nRevokedKeys /a\n", ["/a"]),
    ],
)
def test_other_lists_are_found(tmp_path: Path, text: str, found: list[str]):
    (tmp_path / "sshd_config").write_text(text)
    assert [str(path) for path in other_lists(Sshd(tmp_path, "sshd", "true").settings())] == found


@pytest.mark.parametrize("text", ["RevokedKeys /a\nRevokedKeys /b\n", "Match User a\nRevokedKeys /a\n"])
def test_lists_that_cannot_be_one_are_refused(tmp_path: Path, text: str):
    (tmp_path / "sshd_config").write_text(text)
    with pytest.raises(Unsafe):
        other_lists(Sshd(tmp_path, "sshd", "true").settings())


def test_a_text_of_keys_becomes_a_list(tmp_path: Path):
    (tmp_path / "keys").write_text(f"# who left\n\n{KEY.line()} alice\n")
    assert parse_krl(read_other(tmp_path / "keys")).has_key(KEY.blob)


@pytest.mark.parametrize(
    "data", [b"nonsense\n", b"ssh-ed25519 AAAA\n", b"ssh-ed25519\n", b"SSHKRL\n\0torn", b"ssh-rsa " + b"!" * 99 + b"\n"]
)
def test_what_sshd_would_not_take_is_refused(tmp_path: Path, data: bytes):
    (tmp_path / "keys").write_bytes(data)
    with pytest.raises(Error):
        read_other(tmp_path / "keys")


def test_a_merged_list_says_which_bundle_is_in_it(tmp_path: Path):
    sshd = Sshd(tmp_path, "sshd", "true")
    sshd.folder.mkdir()
    other = dump_krl(Krl(keys=frozenset({KEY.blob}), comment=b"jitgate SHA256:x 9.9.9"))
    for version, key in (((1, 2, 3), "SHA256:abc"), (None, "SHA256:abc")):
        (sshd.folder / "krl").write_bytes(merged(revoked.EMPTY, key, version, [other]))
        found = revoked.installed(sshd)
        assert found
        assert (found.key, found.version) == ((key, version) if version else ("", (0, 0, 0)))
        assert parse_krl(found.data).has_key(KEY.blob)


def test_who_comes_back_waits_a_random_time_that_grows_to_a_minute():
    waits: list[tuple[float, float]] = []

    def longest(least: float, most: float) -> float:
        waits.append((least, most))
        return most

    backoff = Backoff(seconds=longest)
    found = [backoff.wait(lasted=0) for _ in range(8)]
    assert found == [4, 8, 16, 32, 60, 60, 60, 60]
    assert backoff.wait(lasted=3600) == 2
    assert backoff.wait(lasted=0, refused=True) == 300
    assert all(most > least for least, most in waits)
