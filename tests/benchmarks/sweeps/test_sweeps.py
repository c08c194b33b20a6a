"""The benchmarks run. Speed is measured by hand (`python -m tests.benchmarks.sweeps`)."""

from __future__ import annotations

import pytest

from tests.benchmarks.sweeps.workload import measured

pytestmark = pytest.mark.benchmark


@pytest.mark.parametrize("stored", [False, True])
def test_a_sweep_is_carried_out_whole(stored: bool) -> None:
    assert measured(4, 10, stored=stored, workers=2).runs == 4
