"""The examples of the charts' docstrings run as they stand, on a small sweep."""

import doctest

import pytest

from llmlab import ClosedLoop, Experiment, MockBackend, OpenLoop, Outage, ServerModel, Sweep, analysis, plots, storm_map
from llmlab.analysis import SLO, recommend

CHARTS = [name for name in plots.__all__ if callable(getattr(plots, name)) and name.islower()]


@pytest.fixture(scope="module")
def names():
    grid = {
        "backend.timeout_probability": [0.0, 0.3],
        "policy.retry.max_retries": [0, 2],
        "policy.max_concurrency": [8, None],
    }
    base = Experiment(workload=OpenLoop(calls=40, rate=4.0))
    other = Experiment(backend=MockBackend(timeout_probability=0.1), workload=ClosedLoop(calls=60)).run()
    server = ServerModel(slots=2, outages=[Outage(start=2.0, end=4.0)])
    experiment = Experiment(backend=MockBackend(server=server), workload=OpenLoop(calls=40, rate=4.0))
    storm = experiment.replace(workload=OpenLoop(rate=4.0, duration=10))
    return {
        "SLO": SLO,
        "analysis": analysis,
        "experiment": experiment,
        "other": other,
        "points": storm_map(storm, rates=[2, 4], retries=[0, 1], window=5, progress=False),
        "recommend": recommend,
        "result": Sweep(base, grid).run(progress=False),
    }


@pytest.mark.parametrize("chart", CHARTS)
def test_the_example_of_a_chart_runs(chart, names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # an example may save its chart
    function = getattr(plots, chart)
    [example] = doctest.DocTestFinder(recurse=False).find(function, chart, globs=names | {chart: function})
    assert example.examples, f"{chart} has no example"
    assert doctest.DocTestRunner().run(example).failed == 0
