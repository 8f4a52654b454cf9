"""When a batch begins and how large it is, without threads and without a clock."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.serving.policy import BatchPolicy, powers_of_two

BATCHER = BatchPolicy(8, max_queue_delay_us=2000)
PREFERS = BatchPolicy(8, max_queue_delay_us=2000, preferred_batch_sizes=(2, 4))
STATIC = BatchPolicy(8, static=True)


def test_a_full_batch_does_not_wait():
    assert BATCHER.take(8, oldest_us=0) == BATCHER.take(20, oldest_us=0) == 8


def test_fewer_wait_until_the_oldest_has_waited_long_enough():
    assert BATCHER.take(3, oldest_us=1999) == 0
    assert BATCHER.wait_us(1999) == 1
    assert BATCHER.take(3, oldest_us=2000) == 3


def test_nobody_waits_for_others_when_no_more_will_come():
    assert BATCHER.take(3, oldest_us=0, flush=True) == 3


def test_the_largest_preferred_size_begins_at_once_and_the_others_stay():
    assert [PREFERS.take(waiting, oldest_us=0) for waiting in (1, 2, 3, 5, 8)] == [0, 2, 2, 4, 8]


def test_a_static_engine_takes_what_there_is_and_pads_it():
    assert STATIC.take(3, oldest_us=0) == 3
    assert STATIC.executed(3) == 8
    assert STATIC.sizes() == (8,)


def test_buckets_pad_to_the_next_size_that_was_captured():
    policy = BatchPolicy(8, buckets=(1, 4, 8))
    assert [policy.executed(count) for count in (1, 2, 4, 5)] == [1, 4, 4, 8]
    assert BATCHER.executed(5) == 5


def test_buckets_that_can_not_hold_a_full_batch_are_refused():
    with pytest.raises(ValueError, match="no bucket"):
        BatchPolicy(8, buckets=(1, 4))


@pytest.mark.parametrize(("most", "sizes"), [(1, (1,)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12))])
def test_powers_of_two_end_with_the_largest_batch(most, sizes):
    assert powers_of_two(most) == sizes


@given(
    waiting=st.integers(1, 100), oldest_us=st.floats(0, 1e5), flush=st.booleans(), preferred=st.sets(st.integers(1, 8))
)
def test_a_batch_is_never_larger_than_the_engine_or_the_queue_and_runs_at_no_smaller_size(
    waiting, oldest_us, flush, preferred
):
    policy = BatchPolicy(8, 500, tuple(sorted(preferred)), buckets=powers_of_two(8))
    taken = policy.take(waiting, oldest_us, flush)
    assert 0 <= taken <= min(waiting, 8)
    assert taken or (oldest_us < 500 and not flush)  # whoever may not wait any longer is taken
    assert not taken or taken <= policy.executed(taken) <= 8
