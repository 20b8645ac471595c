from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jitgate.core.clock import DAY, SECOND
from jitgate.core.errors import BadInput
from jitgate.identity.throttle import (
    ACCOUNT,
    ADDRESS,
    Throttle,
    Throttled,
    account_subject,
    address_subject,
    failed,
    forgiven,
    wait,
)

NOW = 1_800_000_000 * SECOND


def after(failures: int, limit=ACCOUNT) -> Throttle | None:
    throttle = None
    for _ in range(failures):
        throttle = failed(throttle, NOW, limit)
    return throttle


@pytest.mark.parametrize("limit", [ACCOUNT, ADDRESS], ids=["account", "address"])
def test_the_wait_doubles_from_the_first_failure_that_costs_up_to_the_cap(limit):
    waits = [wait(after(failures, limit), NOW, limit) for failures in range(limit.free + 15)]
    assert waits[: limit.free + 1] == [0] * (limit.free + 1)
    costs = waits[limit.free + 1 :]
    assert costs[0] == limit.first
    assert all(later == min(2 * earlier, limit.cap) for earlier, later in pairwise(costs))
    assert costs[-1] == limit.cap


def test_a_day_of_guessing_one_account_is_some_hundred_guesses():
    now, throttle, guesses = NOW, None, 0
    while now < NOW + DAY:
        throttle = failed(throttle, now)
        guesses += 1
        now += wait(throttle, now)
    assert guesses < 120


def test_the_wait_runs_out_and_is_one_microsecond_long_until_then():
    throttle = after(ACCOUNT.free + 1)
    assert wait(throttle, NOW + SECOND - 1) == 1
    assert wait(throttle, NOW + SECOND) == 0


def test_failures_are_forgotten_after_the_time_and_not_before():
    throttle = Throttle(50, NOW)
    assert failed(throttle, NOW + ACCOUNT.forget).failures == 51
    assert failed(throttle, NOW + ACCOUNT.forget + 1) == Throttle(1, NOW + ACCOUNT.forget + 1)


@given(st.integers(0, 10**9), st.integers(-DAY, DAY))
def test_no_count_and_no_clock_makes_a_wait_below_zero_or_above_the_cap(failures, passed):
    assert 0 <= wait(Throttle(failures, NOW), NOW + passed) <= ACCOUNT.cap


def test_the_count_is_bounded():
    assert failed(Throttle(1000, NOW), NOW).failures == 1000


def test_a_success_takes_back_itself_and_one_failure_of_the_address():
    assert forgiven(None) is None
    assert forgiven(Throttle(1, NOW)) is None
    assert forgiven(Throttle(30, NOW)) == Throttle(28, NOW)


def test_an_own_account_does_not_wash_the_address_clean():
    """Two guesses at others for each own sign-in: the address still ends at its cap."""
    throttle = None
    for _ in range(100):
        for _ in range(3):
            throttle = failed(throttle, NOW, ADDRESS)
        throttle = forgiven(throttle)
    assert wait(throttle, NOW, ADDRESS) == ADDRESS.cap


def test_the_error_says_how_long():
    error = Throttled(90 * SECOND + 1)
    assert (error.retry_after, error.hint, error.http_status) == (90 * SECOND + 1, "wait 91 s and try again", 429)
    assert error.code == "throttled"


def test_an_account_is_kept_under_no_text_that_was_typed():
    assert "hunter2" not in account_subject("hunter2")
    assert len({account_subject(name) for name in ("alice", "bob", "\ud800", "")}) == 4


def test_a_known_device_has_a_count_of_its_own():
    assert (
        len({account_subject("alice"), account_subject("alice", "SHA256:x"), account_subject("bob", "SHA256:x")}) == 3
    )


@pytest.mark.parametrize(
    ("address", "subject"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::9", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
    ],
)
def test_what_counts_as_one_address(address, subject):
    assert address_subject(address) == subject


@pytest.mark.parametrize("address", ["", "web1", "192.0.2.1, 192.0.2.2", "192.0.2.1\n"])
def test_what_is_no_address(address):
    with pytest.raises(BadInput):
        address_subject(address)
