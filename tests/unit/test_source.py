"""Rules over the source tree that no linter has: who may make a Permit, how files are named, what stands in none."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.drift

ROOT = Path(__file__).parents[2]
FOLDERS = ("src", "tests", "tools", "docs", "deploy", "requirements", ".ci")
MAX_LINES = 500
NAMES_THAT_SAY_NOTHING = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
# The types that prove that a stage has run: made in its room and nowhere else.
MADE_IN = {"Permit": "policy", "PlainPermit": "policy", "Grant": "grants", "IssuedCert": "ca"}
# In pieces, so that this file does not hold what it forbids.
MACHINE_PATH = re.compile("/wo" + "rk/|/ro" + "ot/")
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|raise NotImplementedError)\b")


def files(*folders: str, suffix: str = "") -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob(f"*{suffix}"))
    return sorted(path for path in found if path.is_file() and "__pycache__" not in path.parts)


def made_outside_its_room(tree: ast.AST, room: str) -> Iterator[str]:
    """Calls of a proving type's constructor, and imports that give such a type another name.

    A class of the same name that the module defines itself (an answer as the client reads it) proves nothing.
    """
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name not in own and MADE_IN.get(name, room) != room:
                yield f"line {node.lineno} makes a {name}"
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if MADE_IN.get(alias.name, room) != room and alias.asname not in (None, alias.name):
                    yield f"line {node.lineno} renames {alias.name}"


def shells(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg == "shell" and getattr(node.value, "value", True) is not False:
            yield f"line {node.value.lineno} starts a shell"
        if (
            isinstance(node, ast.Attribute)
            and node.attr in ("system", "popen")
            and getattr(node.value, "id", "") == "os"
        ):
            yield f"line {node.lineno} starts a shell"


def places(found: dict[Path, list[str]]) -> list[str]:
    return [f"{path.relative_to(ROOT)}: {text}" for path, texts in found.items() for text in texts]


def test_no_file_is_too_long():
    counts = {path: len(path.read_text().splitlines()) for path in files("src", "tests", "tools", suffix=".py")}
    assert not {path: count for path, count in counts.items() if count > MAX_LINES}


def test_every_module_has_a_name_that_says_something():
    modules = files("src", "tools", suffix=".py")
    named = {part.removesuffix(".py") for path in modules for part in path.relative_to(ROOT).parts}
    assert not named & NAMES_THAT_SAY_NOTHING


def test_proofs_are_made_only_in_their_rooms():
    found = {
        path: list(made_outside_its_room(ast.parse(path.read_text()), path.relative_to(ROOT / "src/jitgate").parts[0]))
        for path in files("src", suffix=".py")
    }
    assert not places(found)


def test_no_shell_is_started():
    found = {path: list(shells(ast.parse(path.read_text()))) for path in files("src", "tools", suffix=".py")}
    assert not places(found)


def test_nothing_names_the_machine_it_was_written_on():
    top = [path for path in ROOT.iterdir() if path.is_file() and path.suffix in ("", ".md", ".toml")]
    texts = {path: path.read_text(errors="replace") for path in (*files(*FOLDERS), *top) if path.name != ".git"}
    assert not places({path: [match.group() for match in MACHINE_PATH.finditer(text)] for path, text in texts.items()})


def test_nothing_is_left_unfinished():
    found = {path: UNFINISHED.findall(path.read_text()) for path in files("src", suffix=".py")}
    assert not places(found)


@pytest.mark.parametrize(
    "text",
    ["Permit(role)", "model.Grant(id=1)", "from jitgate.ca.model import IssuedCert as Plain"],
)
def test_a_proof_made_elsewhere_would_be_found(text: str):
    assert list(made_outside_its_room(ast.parse(text), "flow"))


@pytest.mark.parametrize("text", ["run(x, shell=True)", "run(x, shell=flag)", "os.system('x')"])
def test_a_shell_would_be_found(text: str):
    assert list(shells(ast.parse(text)))
