import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jitgate.ca.serials import BLOCK_MAX, after_restore, block, epoch_of, first_serial
from jitgate.core.errors import Conflict
from jitgate.ssh.cert import SERIALS

epochs = st.integers(0, 65535)
six = st.binary(min_size=6, max_size=6)


@given(epochs, six)
def test_a_start_is_a_serial_of_its_epoch_with_room_to_count(epoch, noise):
    start = first_serial(epoch, lambda _: noise)
    assert start in SERIALS
    assert epoch_of(start) == epoch
    assert epoch_of(start + (1 << 46) - 1) == epoch


@settings(max_examples=50)
@given(st.integers(0, 65534), six, six, st.integers(0, 1 << 45))
def test_after_a_restore_no_serial_of_before_comes_back(epoch, before, after, used):
    forgotten = first_serial(epoch, lambda _: before) + used
    assert after_restore(first_serial(epoch, lambda _: before), epoch + 1, lambda _: after) > forgotten


def test_a_restore_that_forgot_to_move_the_epoch_is_refused():
    for epoch in (2, 3):
        with pytest.raises(Conflict):
            after_restore(first_serial(3, bytes), epoch, lambda n: b"\x11" * n)


def test_blocks_end_with_their_epoch():
    last = (5 << 47) - 1
    assert list(block(last - 1, 2)) == [last - 1, last]
    with pytest.raises(Conflict):
        block(last, 2)
    assert block((1 << 63) - 1, 1)[0] in SERIALS
    with pytest.raises(Conflict):
        block(1 << 63, 1)
    with pytest.raises(Conflict):
        block(0, 1)
    assert list(block(1, BLOCK_MAX))[-1] == BLOCK_MAX
    with pytest.raises(ValueError, match="a block of"):
        block(1, BLOCK_MAX + 1)


def test_the_epochs_end_loudly():
    with pytest.raises(Conflict):
        first_serial(1 << 16, os.urandom)
