"""The docs say what the code does: generated parts are current; every setting, metric and error code is told."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from jitgate.adapters.ldap.settings import DirectorySettings
from jitgate.app.settings import Settings
from jitgate.app.telemetry import Telemetry
from jitgate.identity.providers import ProviderSettings

pytestmark = pytest.mark.drift

ROOT = Path(__file__).parents[2]
OPERATIONS = (ROOT / "docs/operations.md").read_text()
POLICY = (ROOT / "docs/policy.md").read_text()
PROVIDERS = (ROOT / "docs/identity-providers.md").read_text()
VAULT = (ROOT / "docs/vault.md").read_text()
AGENTS = (ROOT / "docs/agents.md").read_text()
AGENT = (ROOT / "docs/agent.md").read_text()
HOST_SESSIONS = (ROOT / "docs/host-sessions.md").read_text()


def test_generated_docs_are_as_generated() -> None:
    # A process of its own: click keeps in each command how its help was first asked for.
    done = subprocess.run(
        [sys.executable, "-m", "tools.docs", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}{done.stderr}run: python -m tools.docs"


def test_every_setting_is_told() -> None:
    told = set(re.findall(r"^\| `([a-z_]+)` \|", OPERATIONS, re.MULTILINE))
    assert {field.name for field in fields(Settings)} <= told


@pytest.mark.parametrize("kind", [ProviderSettings, DirectorySettings])
def test_every_setting_of_a_table_is_told(kind: type) -> None:
    told = set(re.findall(r"`([a-z_]+)`(?=[^|]*\|)", PROVIDERS))
    assert {field.name for field in fields(kind)} <= told


def test_every_metric_is_told() -> None:
    samples = {
        family.name + {"counter": "_total", "info": "_info"}.get(family.type, "")
        for family in Telemetry().registry.collect()
    }
    assert samples <= set(re.findall(r"`(jitgate_[a-z_]+)`", OPERATIONS))


def test_every_error_code_is_told() -> None:
    codes = set(_codes_in_source())
    assert {"denied", "bad_proof", "key_not_registered"} <= codes, "the search finds none any more"
    told = {
        code
        for page in (OPERATIONS, POLICY, PROVIDERS, AGENTS, VAULT, AGENT, HOST_SESSIONS)
        for code in re.findall(r"`([a-z_]+)`", page)
    }
    assert codes - told == set()


def _codes_in_source() -> Iterator[str]:
    """What stands in `code="..."` and `default_code = "..."` anywhere, and the codes of our own problems."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.keyword(arg="code", value=ast.Constant(value=str(code))):
                    yield code
                case ast.Assign(targets=[ast.Name(id="default_code")], value=ast.Constant(value=str(code))):
                    yield code
                case ast.Call(func=ast.Name(id="problem"), args=[_, _, ast.Constant(value=str(code)), *_]):
                    yield code
