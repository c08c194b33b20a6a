"""The benchmark runs, and its map is right. Speed is measured by hand (`python -m tests.benchmarks.storm_map`)."""

from __future__ import annotations

import pytest

from tests.benchmarks.storm_map.__main__ import disagreements, run

pytestmark = pytest.mark.benchmark


def test_a_small_map_agrees_with_the_line() -> None:
    points = run(loads=4, retries=3, seconds=30, processes=1)
    assert disagreements(points) == []
    assert set(points["recovered"]) == {True, False}
