"""The benchmark covers every chart, and its charts can be drawn. Speed is measured by hand."""

from __future__ import annotations

import pytest

from llmlab import plots
from tests.benchmarks.plots.charts import NOT_OF_EVENTS, charts

pytestmark = pytest.mark.benchmark


def test_every_chart_of_events_is_measured() -> None:
    there = {name for name in plots.__all__ if name.islower()}
    assert set(charts(100)) == there - NOT_OF_EVENTS


@pytest.mark.parametrize("name", charts(100))
def test_a_chart_of_made_up_events_can_be_drawn(name: str) -> None:
    charts(4_000)[name]()
