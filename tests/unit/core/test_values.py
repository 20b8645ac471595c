"""The smallest things: ids, times, secrets, errors."""

import copy
import json
import logging
import pickle

import pytest

from jitgate.core import errors
from jitgate.core.clock import SECOND, rfc3339
from jitgate.core.ids import is_id, new_id
from jitgate.core.outcome import crashed, failed, passed
from jitgate.core.secret import Secret


def test_ids_sort_by_their_time_and_carry_all_their_randomness():
    earlier = new_id(1_700_000_000 * SECOND, lambda size: b"\xff" * size)
    later = new_id(1_700_000_000 * SECOND + 1000, bytes)
    assert earlier < later
    assert is_id(earlier)
    assert is_id(later)
    assert new_id(0, bytes) == "0" * 26
    assert new_id((1 << 48) * 1000 - 1, lambda size: b"\xff" * size) == "7" + "Z" * 25


@pytest.mark.parametrize("text", ["", "0" * 25, "0" * 27, "8" + "0" * 25, "I" * 26, "o" * 26, "0" * 25 + "\n"])
def test_what_is_no_id(text: str):
    assert not is_id(text)


def test_times_are_shown_to_the_second_in_utc():
    assert rfc3339(0) == "1970-01-01T00:00:00Z"
    assert rfc3339(1_700_000_000 * SECOND + 999_999) == "2023-11-14T22:13:20Z"


@pytest.mark.parametrize("value", ["hunter2", b"hunter2"])
def test_a_secret_shows_itself_nowhere(value: str | bytes, caplog: pytest.LogCaptureFixture):
    secret = Secret(value)  # type: ignore[type-var]  # one of the two
    logging.getLogger().warning("%s %r", secret, {"a": [secret]})
    shown = [f"{secret}", f"{secret!r}", str([secret]), caplog.text]
    assert not [text for text in shown if "hunter2" in text]
    for give_away in (pickle.dumps, json.dumps, copy.deepcopy, hash):
        with pytest.raises(TypeError):
            give_away(secret)
    assert secret == Secret(value)  # type: ignore[type-var]
    assert secret != Secret("other")
    assert secret != value
    assert not Secret("")
    assert secret.reveal() == value


def test_each_error_has_its_exit_status_and_its_http_status():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.Error)]
    told = {kind.__name__: (kind.exit_status, kind.http_status, kind.default_code) for kind in kinds}
    assert told == {
        "Error": (1, 400, "error"),
        "BadInput": (1, 400, "bad_input"),
        "UsageError": (2, 400, "usage"),
        "NotSignedIn": (3, 401, "not_signed_in"),
        "Denied": (4, 403, "denied"),
        "ApprovalPending": (5, 409, "approval_pending"),
        "NotFound": (6, 404, "not_found"),
        "Conflict": (7, 409, "conflict"),
        "TooMany": (1, 429, "too_many"),
        "Unreachable": (8, 503, "unreachable"),
        "Unsafe": (1, 400, "unsafe"),
    }


def test_a_check_that_crashed_has_not_passed():
    assert passed("x", "").passed
    assert not failed("x", "").passed
    assert not crashed("x", "").passed
