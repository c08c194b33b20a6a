"""The queue reconstructed from comings and goings is the queue that there was."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmlab.calibration.occupancy import Busy, most_present, service_starts


def queue(came, work, slots):
    """Serve these with so many slots, first come, first served; return when each began (Kiefer and Wolfowitz)."""
    free, starts = [0.0] * slots, []
    for time, need in zip(came, work, strict=True):
        slot = min(range(slots), key=free.__getitem__)
        starts.append(max(time, free[slot]))
        free[slot] = starts[-1] + need
    return np.array(starts)


traffic = st.lists(
    st.tuples(st.integers(0, 40), st.integers(1, 60)), min_size=1, max_size=60
)  # whole numbers, so that comings and goings coincide


@given(traffic, st.integers(1, 5))
def test_with_the_right_number_of_slots_every_beginning_is_found(pairs, slots):
    came = np.cumsum([gap for gap, _ in pairs]).astype(float)
    work = np.array([need for _, need in pairs], dtype=float)
    starts = queue(came, work, slots)
    assert service_starts(came, starts + work, slots).tolist() == starts.tolist()


def test_who_leaves_before_his_turn_was_never_served():
    starts = service_starts(np.array([0.0, 1.0, 2.0]), np.array([10.0, 4.0, 12.0]), slots=1)
    assert starts[[0, 2]].tolist() == [0.0, 10.0]
    assert np.isnan(starts[1])


def test_nobody_is_served_while_a_model_is_loaded():
    came, left = np.array([0.0, 1.0, 5.0]), np.array([9.0, 9.5, 10.0])
    assert service_starts(came, left, 2, loads={0: 3.0}).tolist() == [3.0, 3.0, 9.0]


def test_the_most_present_count_nobody_twice_who_leaves_as_another_comes():
    assert most_present(np.array([0.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == 1
    assert most_present(np.array([0.0, 0.5, 2.0]), np.array([1.0, 2.0, 3.0])) == 2


def test_work_is_slower_while_more_are_served():
    # One alone for 2 s, two for 2 s at half the pace, one alone again for 1 s.
    starts, left = np.array([0.0, 2.0]), np.array([5.0, 4.0])
    busy = Busy.of(starts, left)
    assert busy.work(starts, left, slowdown=1.0) == pytest.approx([2 + 1 + 1, 1])
    assert busy.work(starts, left, slowdown=0.0) == pytest.approx([5, 2])
    assert busy.pace_before(left, 1.0) == pytest.approx([1, 0.5])
    assert busy.mean_count(starts, left) == pytest.approx([7 / 5, 2])
