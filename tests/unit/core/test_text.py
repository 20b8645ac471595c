"""Names that end up in certificates, sshd files, logs and terminals: taken as they are, or refused."""

import pytest

from jitgate.core.errors import BadInput
from jitgate.core.text import REASON_MAX, check_name, check_reason, shown

TAKEN = {
    "person": ["a", "alice", "alice.b@example.org", "7up", "a" * 64],
    "group": ["ops", "CORP/Domain:ops", "a" * 128],
    "login": ["ubuntu", "_apt", "a-b_c9", "a" * 32],
    "host": ["web1", "web-1.eu", "a" * 63, "1"],
    "role": ["web-ops", "a" * 63],
    "realm": ["default", "a" * 32],
    "label key": ["env", "k8s.io_x-y"],
    "ticket": ["OPS-12", "7", "org/repo:42", "a" * 64],
    "label value": ["Prod", "a" * 63, "1"],
}
# in every name of every kind: separators of principals, files and shells, what a terminal obeys, look-alikes, paths
NEVER = [
    "", " ", ",", "*", "?", "!", "\n", "\r", "\t", "\0", "\x1b", "\x7f", "\u202e", "\u200b", "é", "\u0430", "\uff41",
    "'", '"', "$", "`", "\\", "|", ";", "&", "<", ">", "(", "#", "%", "=", "..",
]  # fmt: skip


@pytest.mark.parametrize(("kind", "value"), [(kind, value) for kind, values in TAKEN.items() for value in values])
def test_a_name_is_taken_as_it_is(kind: str, value: str):
    assert check_name(kind, value) == value


@pytest.mark.parametrize("bad", NEVER, ids=repr)
@pytest.mark.parametrize("kind", TAKEN)
def test_a_name_is_refused_and_not_repaired(kind: str, bad: str):
    for value in (bad, f"a{bad}a", f"{bad}a", f"a{bad}") if bad else ("",):
        with pytest.raises(BadInput):
            check_name(kind, value)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *((kind, max(values, key=len) + "a") for kind, values in TAKEN.items() if kind != "label key"),
        ("label key", "a" * 64),
        ("person", "Alice"),
        ("person", "-oProxyCommand"),
        ("person", ".alice"),
        ("person", "alice bob"),
        ("login", "7up"),
        ("login", "-l"),
        ("login", "Root"),
        ("login", "ubuntu@host:web1"),
        ("host", "localhost"),
        ("host", "-web1"),
        ("host", "web1-"),
        ("host", "web1."),
        ("host", "WEB1"),
        ("host", "web_1"),
        ("host", "web1:22"),
        ("host", "../etc"),
        ("role", "web.ops"),
        ("realm", "a.b"),
        ("label value", "a/b"),
    ],
)
def test_what_reads_as_more_than_a_name_is_refused(kind: str, value: str):
    with pytest.raises(BadInput):
        check_name(kind, value)


@pytest.mark.parametrize("text", ["", "disk full, OPS-12", "Größe 漢字 🙂", "x" * REASON_MAX])
def test_a_reason_is_free_text_on_one_line(text: str):
    assert check_reason(text) == text


def test_a_reason_loses_only_the_spaces_around_it():
    assert check_reason("  two  words ") == "two  words"


@pytest.mark.parametrize(
    "bad", ["\n", "\r", "\0", "\x1b", "\x9b", "\u202e", "\u200b", "\u2028", "\ud800", "\ufeff", "\U000e0041"]
)
def test_a_reason_that_a_terminal_would_obey_is_refused(bad: str):
    with pytest.raises(BadInput, match="invisible"):
        check_reason(f"a{bad}b")


def test_a_reason_has_an_end():
    with pytest.raises(BadInput, match="501"):
        check_reason("x" * (REASON_MAX + 1))


@pytest.mark.parametrize("text", ["\x1b[31m", "\u202e", "a'b", "\n", "\x9b"])
def test_what_is_shown_cannot_end_its_quotes_or_steer_a_terminal(text: str):
    said = shown(text)
    assert said[0] == said[-1] == "'"
    assert "'" not in said[1:-1]
    assert said.isprintable()


def test_what_is_shown_is_cut():
    assert len(shown("x" * 10_000)) == 82
    assert shown("x" * 80) == "'" + "x" * 80 + "'"
