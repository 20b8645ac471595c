"""The examples of docs/policy.md load and do what the text says; its tables are complete."""

import re
from pathlib import Path

from pydantic import BaseModel
from tests.unit.policy.given import facts, host, permitted, person, refused

from jitgate.policy import decide as deciding
from jitgate.policy.bundle import load_files
from jitgate.policy.condition_text import FIELDS, FUNCTIONS, METHODS
from jitgate.policy.lint import lint
from jitgate.policy.model import Ask
from jitgate.policy.role import Role

TEXT = (Path(__file__).parents[3] / "docs/policy.md").read_text()
EXAMPLES = load_files(
    {
        f"{number}.{kind}": text.encode()
        for number, (kind, text) in enumerate(re.findall(r"```(yaml|json)\n(.*?)```", TEXT, re.DOTALL))
    }
)


def test_the_examples_are_one_sound_policy():
    assert len(EXAMPLES.rules) == 6
    assert lint(EXAMPLES) == ()


def test_the_first_example_gives_what_the_text_says():
    permit = permitted(EXAMPLES, person("ops"), Ask("web1", reason="deploy"))
    assert (permit.role.name, permit.login, permit.grant_s, permit.certificate_s) == ("web-ops", "ubuntu", 14400, 900)
    assert refused(EXAMPLES, person("ops"), Ask("web1")).code == "reason_needed"


def test_the_other_examples():
    db1 = facts(host("db1", tier="db"))
    root = Ask("db1", "root", reason="index is broken")
    assert permitted(EXAMPLES, person("dba"), root, db1).grant_s == 900
    assert refused(EXAMPLES, person("dba", "contractors"), root, db1).role == "no-contractors-on-databases"
    web = facts(host("web9", "deploy", env="staging", tier="web"), source="198.51.100.7")
    ask = Ask("web9", ticket="OPS-7")
    assert permitted(EXAMPLES, person("deployers"), ask, web).options == (
        ("force-command", "/usr/local/bin/deploy"),
        ("source-address", "198.51.100.7/32"),
    )
    assert refused(EXAMPLES, person("deployers"), Ask("web9", ticket="7"), web).code == "condition_failed"


def test_every_field_code_name_and_function_is_documented():
    named = set(re.findall(r"`([A-Za-z_.]+)`", TEXT))
    for name, field in Role.model_fields.items():
        alias = field.alias or name
        nested = {word for word in named if word.startswith(f"{alias}.")}
        assert alias in named or nested, alias
        if nested and isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            assert nested == {f"{alias}.{inner}" for inner in field.annotation.model_fields}
    codes = {"no_policy", "denied_by_rule", "login_needed", *deciding._CODES.values()}
    assert codes <= named
    assert named >= METHODS | FUNCTIONS
    assert {f"{root}.{inner}" for root, fields in FIELDS.items() for inner in fields} | {"now"} <= named
