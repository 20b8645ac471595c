"""Random role files and conditions: refused by `BadInput` or loaded; then they answer, and never raise."""

from contextlib import suppress
from datetime import UTC, datetime

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.policy.given import WEB

from jitgate.core.errors import BadInput
from jitgate.core.outcome import Outcome
from jitgate.policy.condition import Condition, Value, compile_condition, context, evaluate
from jitgate.policy.role_file import read_roles

WORDS = """
user.name user.groups user host.labels host.labels.env host.name request.minutes auth.age_s now source.ip nothing g
true false null in has size exists all exists_one map timestamp duration matches startsWith getHours
( ( ) ) [ ] { } . , ? : ! - + * / % == != < <= && || ; ` // 'a' "^a$" 'prod' '1h' r'a' ''' 1 18446744073709551616 1.5 2u
"""
PIECES = "role web null ~ <<: 0x1 !!binary - -- --- [ ] { } : , & * | > ' \" # % @ ? !"
tokens = st.lists(st.sampled_from(WORDS.split()), max_size=12).flatmap(
    lambda words: st.sampled_from(("", " ")).map(lambda gap: gap.join(words))
)
leaves = st.sampled_from(
    ("user.name == 'alice'", "has(host.labels.env)", "host.labels.env == 'prod'", "'ops' in user.groups", "true",
     "user.groups.exists(g, g.matches('^o.*$'))", "auth.age_s / request.minutes > 1", "now.getHours() < 9")
)  # fmt: skip
trees = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(("&&", "||", "==", "!=", "<", "+")), inner).map(
            lambda parts: "({} {} {})".format(*parts)
        ),
        inner.map("!{}".format),
        st.tuples(inner, inner, inner).map(lambda parts: "({} ? {} : {})".format(*parts)),
        inner.map("user.groups.all(h, {})".format),
    ),
    max_leaves=6,
)
FACTS: dict[str, Value] = {
    "user": {"name": "bob", "groups": [], "issuer": "local"},
    "auth": {"factors": [], "age_s": 0},
    "host": {"name": "db1", "labels": {}, "realm": "default"},
    "request": {"login": "root", "minutes": 0, "reason": "", "ticket": ""},
    "source": {"ip": "192.0.2.1"},
    "now": datetime(1970, 1, 1, tzinfo=UTC),
}


def loaded(text: str) -> Condition | None:
    with suppress(BadInput):
        return compile_condition(text)
    return None


@settings(max_examples=100)
@given(st.one_of(tokens, trees, st.text(max_size=40)))
def test_a_condition_loads_or_is_refused_and_then_answers(text):
    condition = loaded(text)
    if condition is not None:
        outcome = evaluate(condition, lambda: context(FACTS)).outcome
        assert outcome in Outcome
        assert condition.roots <= FACTS.keys()


@settings(max_examples=100)
@given(
    st.one_of(
        st.binary(max_size=100),
        st.text(max_size=60).map(lambda text: (WEB + text).encode()),
        st.lists(st.sampled_from([*PIECES.split(), " ", "\n"]), max_size=30).map(lambda parts: "".join(parts).encode()),
    ),
    st.sampled_from(("a.yaml", "a.json")),
)  # fmt: skip
def test_a_file_is_read_or_refused(content, name):
    with suppress(BadInput):
        assert read_roles(name, content)
