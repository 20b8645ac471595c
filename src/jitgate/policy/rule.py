"""A role made ready for deciding, and the index that finds the roles for a host without looking at all of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network

from jitgate.core.outcome import Check, failed
from jitgate.policy.condition import Condition, compile_condition
from jitgate.policy.model import HostFacts
from jitgate.policy.role import Role


@dataclass(frozen=True, slots=True)
class Rule:
    """`order`: the place among all roles, by file name, then by place in the file; the first that permits counts."""

    role: Role
    order: int
    groups: frozenset[str]
    users: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    logins: frozenset[str]
    condition: Condition | None
    stranger: Check  # the answer to somebody outside `who`, the same for all of them

    @property
    def denies(self) -> bool:
        return self.role.effect == "deny"

    @property
    def everyone(self) -> bool:
        return not self.groups and not self.users


def make_rule(role: Role, order: int) -> Rule:
    who = role.who
    wanted = [f"group {group}" for group in who.groups] + [f"user {user}" for user in who.users]
    return Rule(
        role=role,
        order=order,
        groups=frozenset(who.groups),
        users=frozenset(who.users),
        networks=tuple(ip_network(source) for source in who.sources),
        logins=frozenset(role.logins),
        condition=compile_condition(who.condition) if who.condition is not None else None,
        stranger=failed("person", f"not in {' or '.join(wanted)}", f"be a member of {' or '.join(wanted)}"),
    )


def covers(rule: Rule, host: HostFacts) -> bool:
    """Whether the host is in the role's realm and among its hosts. A deny rule without `what` covers its realm."""
    what = rule.role.what
    if rule.role.realm != host.realm:
        return False
    if what.labels:
        return all(host.labels.get(key) in values for key, values in what.labels.items())
    if what.hosts:
        return any(host.name == each or (each[-1] == "*" and host.name.startswith(each[:-1])) for each in what.hosts)
    return rule.denies


@dataclass(frozen=True, slots=True)
class Index:
    """Roles by a host's name, by the beginning of its name ("" for all), and by one of the labels that they want."""

    by_name: Mapping[str, tuple[Rule, ...]]
    by_beginning: Mapping[str, tuple[Rule, ...]]
    by_label: Mapping[tuple[str, str], tuple[Rule, ...]]
    beginnings: tuple[int, ...]  # the lengths that occur

    def covering(self, host: HostFacts) -> list[Rule]:
        """All rules that cover the host, in their order."""
        found: dict[int, Rule] = {rule.order: rule for rule in self.by_name.get(host.name, ())}
        for length in self.beginnings:
            if length <= len(host.name):
                found |= {rule.order: rule for rule in self.by_beginning.get(host.name[:length], ())}
        for label in host.labels.items():
            found |= {rule.order: rule for rule in self.by_label.get(label, ())}
        return [rule for _, rule in sorted(found.items()) if covers(rule, host)]


def make_index(rules: Iterable[Rule]) -> Index:
    by_name: defaultdict[str, list[Rule]] = defaultdict(list)
    by_beginning: defaultdict[str, list[Rule]] = defaultdict(list)
    by_label: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        what = rule.role.what
        for pattern in what.hosts:
            (by_beginning if pattern[-1] == "*" else by_name)[pattern.removesuffix("*")].append(rule)
        if what.labels:  # all must match, so any one of them finds the role; the one with the fewest values
            key, values = min(what.labels.items(), key=lambda item: len(item[1]))
            for value in values:
                by_label[key, value].append(rule)
        if not what.hosts and not what.labels:
            by_beginning[""].append(rule)
    return Index(
        {name: tuple(found) for name, found in by_name.items()},
        {name: tuple(found) for name, found in by_beginning.items()},
        {label: tuple(found) for label, found in by_label.items()},
        tuple(sorted({len(name) for name in by_beginning})),
    )
