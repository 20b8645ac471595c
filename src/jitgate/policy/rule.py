"""A role made ready for deciding, and the index that finds the roles for a host without looking at all of them."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from operator import attrgetter

from jitgate.core.outcome import failed
from jitgate.policy.condition import Condition, compile_condition
from jitgate.policy.model import HostFacts, RoleExamined
from jitgate.policy.role import Role


@dataclass(frozen=True, slots=True)
class Rule:
    """`order`: the place among all roles, by file name, then by place in the file; the first that permits counts."""

    role: Role
    order: int
    denies: bool
    everyone: bool  # names no group and no user
    groups: frozenset[str]
    users: frozenset[str]
    networks: tuple[IPv4Network | IPv6Network, ...]
    logins: frozenset[str]
    condition: Condition | None
    stranger: RoleExamined  # the short answer about somebody outside `who`, the same for all of them


def make_rule(role: Role, order: int) -> Rule:
    who = role.who
    wanted = " or ".join(f"group {group}" for group in who.groups)
    if wanted:
        stranger = failed("person", f"not in {wanted}", f"be a member of {wanted}")
    else:
        stranger = failed("person", "not named by the role")
    return Rule(
        role=role,
        order=order,
        denies=role.effect == "deny",
        everyone=not who.groups and not who.users,
        groups=frozenset(who.groups),
        users=frozenset(who.users),
        networks=tuple(ip_network(source) for source in who.sources),
        logins=frozenset(role.logins),
        condition=compile_condition(who.condition) if who.condition is not None else None,
        stranger=RoleExamined(role.name, role.effect, matched=False, checks=(stranger,)),
    )


def covers(rule: Rule, host: HostFacts) -> bool:
    """Whether the host is in the role's realm and among its hosts. A deny rule without `what` covers its realm."""
    what = rule.role.what
    if rule.role.realm != host.realm:
        return False
    if what.labels:
        return has_labels(rule, host)
    if what.hosts:
        return any(host.name == each or (each[-1] == "*" and host.name.startswith(each[:-1])) for each in what.hosts)
    return rule.denies


def has_labels(rule: Rule, host: HostFacts) -> bool:
    return all(host.labels.get(key) in values for key, values in rule.role.what.labels.items())


@dataclass(frozen=True, slots=True)
class Index:
    """Roles by realm and a host's name, the beginning of its name ("" for all), or one label that they want."""

    by_name: Mapping[tuple[str, str], tuple[Rule, ...]]
    by_beginning: Mapping[tuple[str, str], tuple[Rule, ...]]
    by_label: Mapping[tuple[str, str, str], tuple[Rule, ...]]
    beginnings: tuple[int, ...]  # the lengths that occur

    def covering(self, host: HostFacts) -> list[Rule]:
        """All rules that cover the host (`covers`), in their order."""
        found = list(self.by_name.get((host.realm, host.name), ()))
        for length in self.beginnings:
            if length <= len(host.name):
                found += self.by_beginning.get((host.realm, host.name[:length]), ())
        for key, value in host.labels.items():
            for rule in self.by_label.get((host.realm, key, value), ()):
                if len(rule.role.what.labels) == 1 or has_labels(rule, host):
                    found.append(rule)
        return list({rule.order: rule for rule in sorted(found, key=_order)}.values())


_order = attrgetter("order")


def make_index(rules: Iterable[Rule]) -> Index:
    by_name: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    by_beginning: defaultdict[tuple[str, str], list[Rule]] = defaultdict(list)
    by_label: defaultdict[tuple[str, str, str], list[Rule]] = defaultdict(list)
    for rule in rules:
        what, realm = rule.role.what, rule.role.realm
        for pattern in what.hosts:
            (by_beginning if pattern[-1] == "*" else by_name)[realm, pattern.removesuffix("*")].append(rule)
        if what.labels:  # all must match, so any one of them finds the role; the one with the fewest values
            key, values = min(what.labels.items(), key=lambda item: len(item[1]))
            for value in values:
                by_label[realm, key, value].append(rule)
        if not what.hosts and not what.labels:
            by_beginning[realm, ""].append(rule)
    return Index(
        {key: tuple(found) for key, found in by_name.items()},
        {key: tuple(found) for key, found in by_beginning.items()},
        {key: tuple(found) for key, found in by_label.items()},
        tuple(sorted({len(beginning) for _, beginning in by_beginning})),
    )
