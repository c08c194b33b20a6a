"""The benchmarks run. Speed is measured by hand (`python -m tests.benchmarks.local_llm`)."""

from __future__ import annotations

import asyncio

import pytest

from tests.benchmarks.local_llm.candidates import CANDIDATES
from tests.benchmarks.local_llm.measuring import costs, crowd, sync_costs
from tests.benchmarks.local_llm.serving import served

pytestmark = pytest.mark.benchmark


def test_every_candidate_gets_the_whole_answer() -> None:
    with served() as url:
        assert set(asyncio.run(costs(url, 2, rounds=1, calls=4))) == set(CANDIDATES)
        assert set(sync_costs(url, rounds=1, calls=2)) == set(CANDIDATES)


def test_a_crowd_behind_a_limit_meets_no_error() -> None:
    with served() as url:
        assert asyncio.run(crowd(url, 1000, 64)).outcomes == {"ok": 1000}
