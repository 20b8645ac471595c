"""Which policies decide by the clock: a decision under any other is kept while its facts stand."""

import pytest
from tests.world import ROLES

from jitgate.policy.bundle import load_files


@pytest.mark.parametrize(
    ("condition", "asks"),
    [
        ("user.name == 'alice'", False),
        ("host.labels.env == 'prod' && request.login == 'ubuntu' && source.ip != ''", False),
        ("auth.age_s < 600", True),
        ("now > timestamp('2026-01-01T00:00:00Z')", True),
        ("user.name == 'alice' || now.getHours() < 18", True),
    ],
)
def test_whether_a_policy_asks_for_the_time(condition: str, *, asks: bool):
    role = ROLES.replace(
        b"who: {groups: [engineers]}", f'who: {{groups: [engineers], condition: "{condition}"}}'.encode()
    )
    assert load_files({"a.yaml": ROLES, "b.yaml": role.replace(b"role: web", b"role: other")}).asks_time is asks
    assert load_files({"a.yaml": ROLES}).asks_time is False
