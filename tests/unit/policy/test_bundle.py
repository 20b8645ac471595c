import hashlib
import json
import os

import pytest
from tests.unit.policy.given import WEB, policy

from jitgate.core.errors import BadInput, NotFound
from jitgate.policy import bundle
from jitgate.policy.bundle import load_files, load_text
from jitgate.policy.difference import Difference, difference
from jitgate.policy.folder import load_folder, manifest
from jitgate.policy.lint import lint

DENY = "role: freeze\neffect: deny\nwho: {groups: [contractors]}\n"
FILES = {"b.yaml": WEB.encode(), "a.yml": DENY.encode(), "c.json": b'{"role": "all", "effect": "deny"}'}


@pytest.fixture
def folder(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_roles_stand_in_the_order_of_their_files():
    assert list(load_files(FILES).rules) == ["freeze", "web", "all"]


def test_the_digest_is_over_names_and_contents():
    whole = load_files(FILES).digest
    assert load_files(dict(reversed(FILES.items()))).digest == whole
    assert load_files({**FILES, "b.yaml": FILES["b.yaml"] + b"\n"}).digest != whole
    assert load_files({"z.yaml": FILES["b.yaml"], "a.yml": FILES["a.yml"], "c.json": FILES["c.json"]}).digest != whole
    # what `(echo jitgate-policy-v1; sha256sum *.yaml) | sha256sum` gives, but for the second space
    content = b"role: a\neffect: deny\n"
    lines = f"jitgate-policy-v1\n{hashlib.sha256(content).hexdigest()} a.yaml\n"
    assert load_files({"a.yaml": content}).digest == hashlib.sha256(lines.encode()).hexdigest()


def test_one_bad_file_refuses_the_whole():
    with pytest.raises(BadInput, match=r"b\.yaml"):
        load_files({**FILES, "b.yaml": b"role: x\n"})
    with pytest.raises(BadInput, match=r"'web' stands in b\.yaml already"):
        load_files({**FILES, "d.yaml": WEB.encode()})
    with pytest.raises(BadInput, match="without roles"):
        load_files({})


@pytest.mark.parametrize(("limit", "value"), [("FILES_MAX", 2), ("TOTAL_MAX", 100), ("ROLES_MAX", 2)])
def test_a_policy_has_a_size(monkeypatch, limit, value):
    total = sum(map(len, FILES.values()))
    monkeypatch.setattr(bundle, limit, total if limit == "TOTAL_MAX" else 3)
    load_files(FILES)
    monkeypatch.setattr(bundle, limit, value)
    with pytest.raises(BadInput, match=r"too large|3 roles"):
        load_files(FILES)


@pytest.mark.parametrize(
    "name",
    [
        "deny.yam",
        "roles.yaml.tmp",
        "../a.yaml",
        "a/b.yaml",
        f"{'a' * 124}.yaml",
        ".a.yaml",
        "a b.yaml",
        "ä.yaml",
        "a\n.yaml",
    ],
)
def test_a_file_that_would_be_passed_over_is_refused(name):
    with pytest.raises(BadInput, match="not a role file"):
        load_files({name: WEB.encode()})


def test_the_stored_text_gives_the_same_bundle_or_none():
    first = load_files(FILES)
    again = load_text(first.text)
    assert (again.digest, again.files, list(again.rules)) == (first.digest, first.files, list(first.rules))
    value = json.loads(first.text)
    for broken in (
        "",
        "[]",
        json.dumps({**value, "version": 2}),
        json.dumps({**value, "digest": "0" * 64}),
        json.dumps({**value, "files": {k: v for k, v in value["files"].items() if k != "a.yml"}}),
        json.dumps({**value, "files": {"a.yml": 3}}),
    ):
        with pytest.raises(BadInput, match="stored policy"):
            load_text(broken)


def test_a_folder_is_read_whole(folder):
    assert load_folder(folder).digest == load_files(FILES).digest
    (folder / "README.md").write_text("about these roles")
    (folder / ".git").mkdir()
    load_folder(folder)
    (folder / "more").mkdir()
    with pytest.raises(BadInput, match="'more' is no file"):
        load_folder(folder)
    (folder / "more").rmdir()
    (folder / "notes.txt").write_text("x")
    with pytest.raises(BadInput, match=r"not a role file: 'notes\.txt'"):
        load_folder(folder)


def test_a_folder_that_is_none_or_a_pipe(folder):
    with pytest.raises(NotFound):
        load_folder(folder / "nothing")
    os.mkfifo(folder / "d.yaml")
    with pytest.raises(BadInput, match=r"'d\.yaml' is no file"):
        load_folder(folder)


def test_a_manifest_finds_the_half_copied_folder(folder):
    written = manifest(load_folder(folder))
    (folder / "manifest.json").write_text(written)
    load_folder(folder)
    (folder / "a.yml").rename(folder / ".a.yml")
    with pytest.raises(BadInput, match=r"'a\.yml' is missing"):
        load_folder(folder)
    (folder / ".a.yml").rename(folder / "a.yml")
    (folder / "b.yaml").write_text(WEB.replace("ops", "dev"))
    with pytest.raises(BadInput, match=r"'b\.yaml' has changed"):
        load_folder(folder)
    (folder / "b.yaml").write_text(WEB)
    (folder / "d.yaml").write_text("role: d\neffect: deny\n")
    with pytest.raises(BadInput, match=r"'d\.yaml' is not listed"):
        load_folder(folder)
    (folder / "manifest.json").write_text(written.replace('"version": 1', '"version": 2'))
    with pytest.raises(BadInput, match="unknown form"):
        load_folder(folder)
    (folder / "manifest.json").write_text("[]")
    with pytest.raises(BadInput, match="not readable"):
        load_folder(folder)


def test_the_difference_names_lost_denials():
    old = policy(WEB, DENY, "role: stop\neffect: deny\n", "role: narrow\neffect: deny\n")
    turned = WEB.replace("role: web", "role: stop")
    new = policy(
        WEB.replace("ops", "dev"), turned, "role: new\neffect: deny\n", "role: narrow\neffect: deny\nas: [root]\n"
    )
    found = difference(old, new)
    assert found.added == ("new",)
    assert found.removed == ("freeze",)
    assert found.changed == ("narrow", "stop", "web")
    assert found.lost_denials == ("freeze", "stop")
    assert found.changed_denials == ("narrow",)
    assert difference(old, old) == Difference((), (), (), (), ())
    assert difference(None, old).added == ("freeze", "narrow", "stop", "web")


@pytest.mark.parametrize(
    ("role", "words"),
    [
        (WEB.replace("web1", "'*'").replace("ubuntu", "root"), "root on every host"),
        (WEB.replace("groups: [ops]", "condition: 'true'"), "for everybody"),
        (WEB + "on_expiry: keep\nmax_session: 8h\n", "keeps sessions"),
        (WEB + "extensions: [permit-agent-forwarding]\n", "agent"),
        (WEB + "factors: [webauthn]\n", "lacks factors"),
        (WEB + "recording: required\n", "lacks recording"),
        ("role: stop\neffect: deny\n", "forbids everything"),
    ],
)
def test_remarks(role, words):
    (remark,) = lint(policy(role))
    assert words in remark.what


def test_a_plain_role_gets_no_remark():
    assert lint(policy(WEB, DENY)) == ()
