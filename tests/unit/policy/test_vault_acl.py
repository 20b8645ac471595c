"""Path policies of the Vault surface: read strictly, and the most specific pattern alone decides."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgate.core.errors import BadInput
from jitgate.policy.vault_acl import CAPABILITIES, DEFAULT_POLICY, capabilities, check_policy_name, parse_policy


def policy(**paths: str) -> str:
    return "\n".join(f'path "{path}" {{ capabilities = [{_list(words)}] }}' for path, words in paths.items())


def _list(words: str) -> str:
    return ", ".join(f'"{word}"' for word in words.split())


def rules(**paths: str):
    return parse_policy(policy(**paths))


def test_a_policy_as_people_write_it():
    (rule,) = parse_policy(
        """
        # who may sign
        path "ssh/sign/user-role" { // a comment
          capabilities = ["create", "update",] /* and
          one over lines */
        }
        """
    )
    assert rule.pattern == "ssh/sign/user-role"
    assert rule.capabilities == {"create", "update"}
    assert parse_policy('{"path": {"ssh/*": {"capabilities": ["read"]}}}')[0].capabilities == {"read"}
    assert parse_policy(DEFAULT_POLICY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "   ",
        "path",
        'path "a"',
        'path "a" {}',
        'path "a" { capabilities = "read" }',
        'path "a" { capabilities = ["foo"] }',
        'path "a" { capabilities = ["read"] capabilities = ["deny"] }',
        'path "a" { capabilities = ["read"] ',
        'path "a" { capabilities = ["read" "list"] }',
        'path "a" { policy = "write" }',
        'path "a" { capabilities = ["update"] allowed_parameters = { "ttl" = [] } }',
        'path "a" { capabilities = ["update"] min_wrapping_ttl = "1s" }',
        'path "ssh/sign/{{identity.entity.name}}" { capabilities = ["update"] }',
        'path "ssh/*/x" { capabilities = ["read"] }',
        'path "ssh/../sys/mounts" { capabilities = ["read"] }',
        'path "ssh//sign" { capabilities = ["read"] }',
        'path "ssh/si\\ngn" { capabilities = ["read"] }',
        'path "" { capabilities = ["read"] }',
        'name = "x"\npath "a" { capabilities = ["read"] }',
        '{"path": {"a": {"capabilities": ["read"]}, "a": {"capabilities": ["deny"]}}}',
        '{"path": {"a": {"capabilities": ["read"]}}, "more": 1}',
        '{"path": []}',
        "{",
        'path "a" { capabilities = ["read"] }' * 300,
        "x" * 40_000,
    ],
)
def test_what_cannot_be_kept_is_refused(text: str):
    with pytest.raises(BadInput):
        parse_policy(text)


def test_nothing_matches_means_no():
    assert capabilities([rules(**{"ssh/sign/a": "update"})], "ssh/sign/b") == {"deny"}
    assert capabilities([], "ssh/sign/b") == {"deny"}


@pytest.mark.parametrize(
    ("pattern", "path", "matches"),
    [
        ("ssh/sign/a", "ssh/sign/a", True),
        ("ssh/sign/a", "ssh/sign/ab", False),
        ("ssh/sign/a*", "ssh/sign/ab", True),
        ("ssh/sign/*", "ssh/sign/a", True),
        ("ssh/sign/*", "ssh/sign", False),
        ("ssh/*", "ssh/sign/a", True),
        ("*", "ssh/sign/a", True),
        ("ssh/+/a", "ssh/sign/a", True),
        ("ssh/+/a", "ssh/sign/x/a", False),
        ("ssh/+/a", "ssh//a", False),
        ("+/+/a*", "ssh/sign/ab", True),
        ("ssh/+", "ssh/sign/a", False),
        ("ssh/sign/a", "SSH/sign/a", False),
    ],
)
def test_what_a_pattern_means(pattern: str, path: str, *, matches: bool):
    found = capabilities([rules(**{pattern: "read"})], path)
    assert found == ({"read"} if matches else {"deny"})


def test_a_list_is_of_what_is_below():
    for pattern in ("ssh/roles", "ssh/roles/", "ssh/roles/*", "ssh/*"):
        assert capabilities([rules(**{pattern: "list"})], "ssh/roles", listing=True) == {"list"}
    assert capabilities([rules(**{"ssh/roles/*": "list"})], "ssh/roles") == {"deny"}
    both = rules(**{"ssh/roles/": "deny", "ssh/*": "list"})
    assert capabilities([both], "ssh/roles", listing=True) == {"deny"}


def test_the_most_specific_pattern_decides_alone():
    both = rules(**{"ssh/*": "read update", "ssh/sign/root-role": "deny", "ssh/sign/+": "update", "ssh/sign/a": "read"})
    assert capabilities([both], "ssh/sign/root-role") == {"deny"}
    assert capabilities([both], "ssh/sign/a") == {"read"}
    assert capabilities([both], "ssh/sign/b") == {"update"}
    assert capabilities([both], "ssh/roles/a") == {"read", "update"}


def test_one_pattern_of_several_policies_is_united_and_deny_wins():
    one, other, no = (rules(**{"ssh/sign/a": words}) for words in ("read", "update", "deny"))
    assert capabilities([one, other], "ssh/sign/a") == {"read", "update"}
    assert capabilities([one, other, no], "ssh/sign/a") == {"deny"}
    assert capabilities([rules(**{"ssh/sign/a": ""})], "ssh/sign/a") == {"deny"}


@pytest.mark.parametrize("name", ["Root", "ROOT", " root", "root ", "root\n", "r\u043eot", "", ".", "a..b", "a/b"])
def test_no_other_spelling_is_a_name(name: str):
    """CVE-2025-5999: a name that becomes `root` once it is made even."""
    with pytest.raises(BadInput):
        check_policy_name(name)


@given(st.text(max_size=200))
@settings(max_examples=200)
def test_any_text_is_rules_or_refused(text: str):
    try:
        found = parse_policy(text)
    except BadInput:
        return
    assert all(rule.capabilities <= CAPABILITIES for rule in found)


@given(
    st.lists(st.tuples(st.sampled_from(["ssh/sign/a", "ssh/*", "ssh/+/a", "+/sign/*"]), st.just("deny")), min_size=1)
)
@settings(max_examples=50)
def test_only_denials_allow_nothing(denials: list[tuple[str, str]]):
    assert capabilities([rules(**dict(denials))], "ssh/sign/a") == {"deny"}
