"""Failures that come together are told from those that do not, and the bad times are as long as they were."""

import numpy as np
import pytest

from llmlab.backends.fault_kinds import FaultKind
from llmlab.backends.fault_schedule import Burst, Weather
from llmlab.calibration.bursts import fit_bursts, runs_test


def looks(mean_good, mean_bad, probability, seed=3):
    """Return the times of attempts, and which of them a `Burst` befell."""
    count, every = 4000, 0.25
    weather = Weather((Burst(kind="overload", mean_good=mean_good, mean_bad=mean_bad, probability=probability),), seed)
    times = every * np.arange(count)
    draws = np.random.default_rng(seed).uniform(size=count)
    met = [weather.fault_at(time, u)[0] is FaultKind.OVERLOAD for time, u in zip(times.tolist(), draws, strict=True)]
    return times, np.array(met), np.arange(count) == 0


def test_independent_failures_are_no_bursts():
    failed = np.random.default_rng(0).uniform(size=2000) < 0.2
    assert runs_test(failed) > 0.05
    assert fit_bursts(np.arange(2000.0), failed, np.arange(2000) == 0) is None


def test_failures_in_turns_are_no_bursts_either():
    assert runs_test(np.arange(2000) % 2 == 0) > 0.99


def test_the_lengths_of_good_and_bad_times_are_found():
    found = fit_bursts(*looks(mean_good=12.0, mean_bad=4.0, probability=0.7))
    # About 60 bad times: their mean length is known to one in eight.
    assert found.bad_times == pytest.approx(62, rel=0.3)
    assert found.mean_good == pytest.approx(12.0, rel=0.3)
    assert found.mean_bad == pytest.approx(4.0, rel=0.3)
    assert found.probability == pytest.approx(0.7, abs=0.05)
    assert found.otherwise < 0.01


def test_bad_times_late_in_a_long_recording_are_found_too():
    times = np.arange(9000.0)
    failed = np.isin(times // 100, [80, 83, 86, 88])
    found = fit_bursts(times, failed, times == 0)
    assert found.bad_times == pytest.approx(4, rel=0.3)
    assert found.mean_bad == pytest.approx(100, rel=0.3)


def test_one_outage_is_not_taken_for_a_habit():
    times = np.arange(2000.0)
    assert fit_bursts(times, (times > 900) & (times < 1000), times == 0) is None


def test_few_failures_tell_nothing():
    assert runs_test(np.arange(1000) < 5) == 1.0
