"""Every variant runs and does the same work. Speed is measured by hand (`python -m tests.benchmarks.virtual_time`)."""

from __future__ import annotations

import pytest

from tests.benchmarks.virtual_time.__main__ import disagreements
from tests.benchmarks.virtual_time.processes import Measured, installed
from tests.benchmarks.virtual_time.variants import VARIANTS

pytestmark = pytest.mark.benchmark
_CALLS = 200


def _measured(name: str) -> Measured:
    tally = VARIANTS[name].load()(_CALLS, 64)
    return Measured(1.0, tally.attempts, tally.failed_calls, _CALLS)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_does_the_same_work_as_the_bare_simulation(name: str) -> None:
    if not installed(name):
        pytest.skip(f"{VARIANTS[name].needs} is not installed")
    assert disagreements({"bare": _measured("bare"), name: _measured(name)}) == []
