"""A policy as a whole: all its files or none, its digest, and its text form for the store."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from jitgate.core.errors import BadInput
from jitgate.core.text import shown
from jitgate.policy.role_file import SUFFIXES, read_roles
from jitgate.policy.rule import Index, Rule, make_index, make_rule

FILES_MAX = 1000
TOTAL_MAX = 8 * 1024 * 1024  # bytes of all files; a thousand roles are some 300 KB
ROLES_MAX = 10_000
_TIMELESS = frozenset({"user", "host", "request", "source"})  # what conditions look at (`examine.known`) and stays


@dataclass(frozen=True, slots=True)
class PolicyBundle:
    """A policy that loaded. `files`: each file's SHA-256 by its name. `digest`: SHA-256 over all of it, in hex."""

    digest: str
    files: Mapping[str, str]
    rules: Mapping[str, Rule]  # by the role's name, in their order
    index: Index
    text: str  # see `load_text`
    asks_time: bool
    """Whether a decision on a grant that runs may differ at another time of its life."""


def load_files(contents: Mapping[str, bytes]) -> PolicyBundle:
    """The policy that these files (name -> content) are. Raises `BadInput` at the first thing wrong in any of them.

    Rules: every file is a role file; every role loads; no role's name stands twice; there is at least one role.
    """
    if len(contents) > FILES_MAX or sum(map(len, contents.values())) > TOTAL_MAX:
        raise BadInput("the policy is too large", f"at most {FILES_MAX} files and {TOTAL_MAX} bytes")
    rules: dict[str, Rule] = {}
    origin: dict[str, str] = {}
    for name in sorted(contents):
        _check_file_name(name)
        for role in read_roles(name, contents[name]):
            if role.name in rules:
                raise BadInput(f"{name}: role {shown(role.name)} stands in {origin[role.name]} already", "rename one")
            rules[role.name] = make_rule(role, len(rules))
            origin[role.name] = name
    if not rules:
        raise BadInput("a policy without roles", "write a role file that ends in .yaml or .json")
    if len(rules) > ROLES_MAX:
        raise BadInput(f"{len(rules)} roles", f"at most {ROLES_MAX}")
    files = {name: hashlib.sha256(contents[name]).hexdigest() for name in sorted(contents)}
    texts = {name: contents[name].decode() for name in sorted(contents)}
    digest = manifest_digest(files)
    return PolicyBundle(
        digest=digest,
        files=files,
        rules=rules,
        index=make_index(rules.values()),
        text=json.dumps({"version": 1, "digest": digest, "files": texts}, ensure_ascii=False),
        asks_time=any(map(_asks_time, rules.values())),
    )


def load_text(text: str) -> PolicyBundle:
    """The policy back from `PolicyBundle.text`. Raises `BadInput` if it is not whole, or not what its digest says."""
    try:
        value = json.loads(text)
        version, digest, files = value["version"], value["digest"], value["files"]
        contents = {str(name): content.encode() for name, content in files.items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BadInput("the stored policy is not readable", "apply the policy again") from None
    if version != 1:
        raise BadInput("the stored policy has an unknown form", "apply the policy again")
    bundle = load_files(contents)
    if bundle.digest != digest:
        raise BadInput("the stored policy is not what its digest says", "apply the policy again")
    return bundle


def _asks_time(rule: Rule) -> bool:
    """What decides by the clock, beside the role's own time. Whoever adds a check that does so adds it here."""
    looks_at = rule.condition.roots if rule.condition is not None else frozenset[str]()
    return rule.role.schedule is not None or not looks_at <= _TIMELESS


def manifest_digest(files: Mapping[str, str]) -> str:
    """SHA-256 in hex over "jitgate-policy-v1" and a line `SHA256 NAME` a file, sorted by name."""
    lines = ["jitgate-policy-v1", *(f"{files[name]} {name}" for name in sorted(files))]
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _check_file_name(name: str) -> None:
    if not name.endswith(SUFFIXES) or not name.isascii() or not name.isprintable() or "/" in name or len(name) > 128:  # noqa: PLR2004  # a file's name
        raise BadInput(f"not a role file: {shown(name)}", f"role files end in {', '.join(SUFFIXES)}")
    if name.startswith(".") or " " in name:
        raise BadInput(f"not a role file: {shown(name)}", "rename it")
