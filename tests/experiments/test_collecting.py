import gc

import pytest

from llmlab import ClosedLoop, Experiment, MockBackend
from llmlab.experiments.collecting import collecting_rarely
from llmlab.widgets import SweepDashboard, instant


@pytest.fixture
def _threshold_restored():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.usefixtures("_threshold_restored")
def test_a_simulation_collects_rarely_and_afterwards_as_before():
    gc.set_threshold(700, 10, 10)
    seen = set()

    def answer(_request):
        seen.add(gc.get_threshold()[0])
        return "yes"

    Experiment(backend=MockBackend(text=answer), workload=ClosedLoop(calls=3)).run()
    assert seen == {50_000}
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.usefixtures("_threshold_restored")
def test_the_dashboard_draws_without_a_full_collection_and_afterwards_it_is_as_before(monkeypatch):
    gc.set_threshold(700, 10, 10)
    seen, draw = set(), instant.image_of

    def watched(panel):
        seen.add(gc.get_threshold()[0])
        return draw(panel)

    monkeypatch.setattr(instant, "image_of", watched)
    dashboard = SweepDashboard()
    dashboard.wait()
    dashboard.close()
    assert seen == {50_000}
    assert gc.get_threshold() == (700, 10, 10)


@pytest.mark.usefixtures("_threshold_restored")
@pytest.mark.parametrize("threshold", [(0, 10, 10), (100_000, 5, 5)])
def test_a_collector_that_is_off_or_rarer_is_left_alone(threshold):
    gc.set_threshold(*threshold)
    with collecting_rarely():
        assert gc.get_threshold() == threshold


@pytest.mark.usefixtures("_threshold_restored")
def test_what_a_run_raises_leaves_the_collector_as_it_was():
    gc.set_threshold(700, 10, 10)
    with pytest.raises(KeyError), collecting_rarely():
        raise KeyError
    assert gc.get_threshold() == (700, 10, 10)
