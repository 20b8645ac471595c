"""What a new policy changes, by role."""

from dataclasses import dataclass

from jitgate.policy.bundle import PolicyBundle


@dataclass(frozen=True, slots=True)
class Difference:
    """Role names, sorted. `lost_denials`: deny rules that are gone or are none any more; they stand in `removed` or
    `changed` too. `changed_denials`: deny rules that now say something else, so may forbid less.
    """

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    lost_denials: tuple[str, ...]
    changed_denials: tuple[str, ...]


def difference(old: PolicyBundle | None, new: PolicyBundle) -> Difference:
    """`old` None: there was no policy."""
    before = {name: rule.role for name, rule in old.rules.items()} if old else {}
    after = {name: rule.role for name, rule in new.rules.items()}
    changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
    denials = [name for name, role in sorted(before.items()) if role.effect == "deny"]
    lost = [name for name in denials if name not in after or after[name].effect != "deny"]
    return Difference(
        added=tuple(sorted(after.keys() - before.keys())),
        changed=tuple(changed),
        removed=tuple(sorted(before.keys() - after.keys())),
        lost_denials=tuple(lost),
        changed_denials=tuple(name for name in changed if name in denials and name not in lost),
    )
