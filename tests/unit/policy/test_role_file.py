import json
from pathlib import Path

import pytest

from jitgate.core.errors import BadInput
from jitgate.policy.role import Role
from jitgate.policy.role_file import FILE_MAX, read_roles
from jitgate.policy.schema import role_schema

SMALL = "role: web\neffect: allow\nwho: {groups: [ops]}\nwhat: {hosts: [web1]}\nas: [ubuntu]\n"
SCHEMA = Path(__file__).parents[3] / "docs/schema/role.schema.json"


def read(text: str, name: str = "roles.yaml") -> tuple[Role, ...]:
    return read_roles(name, text.encode())


def test_yaml_documents_lists_and_json_say_the_same():
    one = read(SMALL)
    assert read(f"---\n{SMALL}---\n{SMALL}") == one * 2
    assert read("- " + SMALL.replace("\n", "\n  ")) == one
    as_json = {
        "role": "web", "effect": "allow", "who": {"groups": ["ops"]}, "what": {"hosts": ["web1"]}, "as": ["ubuntu"],
    }  # fmt: skip
    assert read(json.dumps(as_json), "web.json") == one
    assert read(json.dumps([as_json]), "web.json") == one
    approval = read(SMALL + "approval: {users: [bob]}\n")[0].approval  # somebody is enough
    assert approval is not None
    assert approval.count == 1


def test_what_is_left_out_is_the_narrow_choice():
    role = read(SMALL)[0]
    assert role.extensions == ()
    assert role.options.source_address == ()
    assert role.options.force_command is None
    assert (role.how_long.grant, role.how_long.certificate) == (3600, 900)
    assert (role.on_expiry, role.max_session) == ("end", None)
    assert read(SMALL + "how_long: {grant: 5m}\n")[0].certificate_s == 300


@pytest.mark.parametrize(("text", "seconds"), [("1s", 1), ("15m", 900), ("8h", 28800), ("7d", 604800)])
def test_durations(text, seconds):
    assert read(SMALL + f"how_long: {{grant: {text}}}\n")[0].how_long.grant == seconds


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("grants: 1h", "roles.yaml: role 'web': grants: unknown field"),
        ("how_long: {grant: 90}", "how_long.grant: not a duration"),
        ("how_long: {grant: 0m}", "how_long.grant: not a duration"),
        ("how_long: {grant: 1.5h}", "how_long.grant: not a duration"),
        ("how_long: {grant: -1h}", "how_long.grant: not a duration"),
        ("how_long: {grant: 31d}", "how_long.grant: input should be less than"),
        ("how_long: {grant: 2d, certificate: 25h}", "how_long.certificate: input should be less than"),
        ("how_long: {grant: 5m, certificate: 6m}", "certificate is longer than grant"),
        ("extensions: [permit-everything]", "extensions.0"),
        ("extensions: [permit-pty, permit-pty]", "'permit-pty' stands there twice"),
        ("options: {source_address: everywhere}", "options.source_address.0: not a network"),
        ("options: {source_address: [client, 10.0.0.0/8]}", "client and networks"),
        ("options: {source_address: [10.0.0.1]}", "not the usual form of a network"),
        ("options: {source_address: ['10.0.0.1/8']}", "not a network"),
        ("options: {source_address: ['2001:DB8::/32']}", "not the usual form of a network"),
        ("options: {source_address: ['::ffff:0:0/96']}", "IPv4 network in IPv6 clothes"),
        ('options: {force_command: "a\\nb"}', "not printable ASCII"),
        ("options: {force_command: ' '}", "not printable ASCII"),
        ("options: {force_command: 'löschen'}", "not printable ASCII"),
        ("options: {source_address: ['fe80::%1/64']}", "usual form of a network"),
        ("options: {verify_required: true}", "options.verify_required: unknown field"),
        ("metadata: {Team: x}", "not a label key name"),
        ('metadata: {team: "a\\u202eb"}', "not printable ASCII"),
        ("metadata: {team: 3}", "metadata.team: not text"),
        ("reason: yes", "reason"),
        ("factors: [toptp]", "factors.0"),
        ("approval: {count: 2}", "nobody could approve"),
        ("approval: {groups: [leads], count: 0}", "approval.count"),
        ("schedule: {days: [monday], from: '08:00', to: '18:00', timezone: UTC}", "schedule.days.0"),
        ("schedule: {days: [mon], from: '8:00', to: '18:00', timezone: UTC}", "schedule.from"),
        ("on_expiry: keep", "on_expiry: keep without an end"),
        ("on_expiry: keep\nmax_session: 1h\nhow_long: {within_token: true}", "would outlive the token"),
        ("recording: 2027-01-01", "neither text, number nor list"),
        ('description: ""', "description is empty"),
        ("approval:", "approval is empty"),
        ("schedule: {}", "schedule is empty"),
        ("factors: []", "factors is empty"),
        ("options: {source_address: }", "options.source_address is empty"),
        ("role: other", "a key twice"),
        ("1: x", "a key twice, or one that is no text"),
        ("metadata: {<<: {a: b}}", "a merge key"),
        ("metadata: &a {a: b}", "an anchor or alias"),
        ("metadata: !!map {a: b}", "a tag"),
        ("metadata: {a: *b}", "an anchor or alias"),
        ("metadata: " + "[" * 20, "too deeply nested"),
        ("metadata: [", "line 7"),
        ("metadata: \x00", "not YAML"),
        ("metadata: {a: " + "1" * 5000 + "}", "not YAML"),
    ],
)  # fmt: skip
def test_a_wrong_line_is_refused_by_name(line, words):
    with pytest.raises(BadInput) as caught:
        read(SMALL + line + "\n")
    assert words in caught.value.what
    assert caught.value.what.startswith("roles.yaml")
    assert caught.value.hint


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("role: web", "role: Web", "not a role name"),
        ("effect: allow\n", "", "effect: missing"),
        ("effect: allow", "effect: Allow", "effect"),
        ("who: {groups: [ops]}\n", "", "for nobody in particular"),
        ("groups: [ops]", "sources: [10.0.0.0/8]", "for nobody in particular"),
        ("groups: [ops]", "groups: [ops], condition: 'user.nmae'", "who.condition: unknown name"),
        ("groups: [ops]", "groups: ['*']", "not a group name"),
        ("groups: [ops]", "groups: ops", "who.groups"),
        ("groups: [ops]", "groups: [no]", "who.groups.0: not text"),
        ("groups: [ops]", "groups: []", "who.groups is empty"),
        ("groups: [ops]", "users: [Alice]", "not a person name"),
        ("what: {hosts: [web1]}\n", "", "for no host"),
        ("hosts: [web1]", "hosts: ['*1']", "not a host name"),
        ("hosts: [web1]", "hosts: ['w*b*']", "not a host name"),
        ("hosts: [web1]", "hosts: [localhost]", "not a host name"),
        ("hosts: [web1]", "hosts: ['a..*']", "not a host name"),
        ("hosts: [web1]", "hosts: [web1], labels: {env: prod}", "hosts and labels together"),
        ("hosts: [web1]", "labels: {env: 'a b'}", "not a label value"),
        ("hosts: [web1]", "labels: {env: 'prod*'}", "not a label value"),
        ("as: [ubuntu]\n", "", "without logins"),
        ("as: [ubuntu]", "as: ['ubuntu,root']", "not a login name"),
        ("as: [ubuntu]", "as: ['*']", "not a login name"),
        ("as: [ubuntu]", "logins: [ubuntu]", "unknown field"),
    ],
)
def test_a_role_that_could_be_misread_is_refused(old, new, words):
    with pytest.raises(BadInput) as caught:
        read(SMALL.replace(old, new))
    assert words in caught.value.what


def test_a_deny_rule_carries_no_obligations():
    read("role: freeze\neffect: deny\nwho: {groups: [x]}\nwhat: {hosts: ['*']}\nas: [root]\ndescription: not today\n")
    lines = (
        "reason: required",
        "factors: [totp]",
        "how_long: {grant: 1h}",
        "extensions: [permit-pty]",
        "approval: {groups: [x]}",
        "schedule: {days: [mon], from: '08:00', to: '18:00', timezone: UTC}",
        "on_expiry: end",
    )
    for line in lines:
        with pytest.raises(BadInput, match="a deny rule with"):
            read(f"role: freeze\neffect: deny\n{line}\n")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no role in it"),
        ("# nothing\n", "no role in it"),
        ("web\n", "entry 1 is no role"),
        ("[]", "no role in it"),
        ("42: [a]", "a key twice, or one that is no text"),
        ("x" * (FILE_MAX + 1), "bytes"),
        ("---\n".join(["role: a\neffect: deny\n"] * 1001), "1001 roles"),
    ],
)
def test_a_file_without_sense_is_refused(text, words):
    with pytest.raises(BadInput, match=words):
        read(text)


@pytest.mark.parametrize(
    "text",
    [
        '{"role": "a", "effect": "deny", "effect": "deny"}',
        '{"role": NaN}',
        "[" * 100_000,
        "{",
        '"role"',
        "[]",
        '{"role": "\\ud800"}',
        "1" * 5000,
    ],
)
def test_json_is_read_as_strictly(text):
    with pytest.raises(BadInput):
        read(text, "a.json")


def test_not_utf8_is_refused():
    with pytest.raises(BadInput, match="not UTF-8"):
        read_roles("a.yaml", b"role: \xff\n")


def test_the_published_schema_is_the_one_in_force():
    assert SCHEMA.read_text() == role_schema(), "write it again: see docs/policy.md"
