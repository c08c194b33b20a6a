import numpy as np
import pytest

from llmlab import Backoff, Constant, Experiment, MockBackend, OpenLoop, RetryPolicy, ServerModel, Sweep
from llmlab.analysis.means import means
from llmlab.plots import MAX_SERIES, retry_amplification
from llmlab.plots.amplification import attempts_in_theory, attempts_under_load
from tests.analysis.synthetic import RETRIES, TIMEOUT
from tests.plots.reading import bars, drawn, legend_texts, legend_title, points, subtitle, title

RATE = "workload.rate"


def test_attempts_per_call_are_drawn_with_their_intervals(calls):
    ax = drawn(retry_amplification(calls, x=TIMEOUT))
    expected = means(calls, "attempts", TIMEOUT)
    assert points(ax.containers[0]) == (expected[TIMEOUT].tolist(), expected["mean"].tolist())
    np.testing.assert_allclose(bars(ax.containers[0]), expected[["mean_low", "mean_high"]])
    assert ax.get_ylabel() == "attempts per call"
    assert title(ax) == "Retry amplification against timeout_probability"
    assert "theory" not in subtitle(ax)  # several numbers of retries are mixed here


def test_each_number_of_retries_has_its_line_of_theory(calls):
    ax = drawn(retry_amplification(calls, x=TIMEOUT, hue=RETRIES))
    assert legend_title(ax) == "max_retries"
    assert legend_texts(ax) == ["0", "1", "3", "theory"]
    dotted = [line for line in ax.lines if line.get_linewidth() == 1.3][:3]
    for retries, line in zip((0, 1, 3), dotted, strict=True):
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            some = calls[(calls[TIMEOUT] == x) & (calls[RETRIES] == retries)]
            failing = 1 - some["answered"].sum() / some["attempts"].sum()
            assert y == pytest.approx(sum(failing**n for n in range(retries + 1)))
    assert "dotted: theory, attempts fail independently" in subtitle(ax)


def test_the_number_of_retries_can_be_given_where_it_was_not_swept(calls):
    bare = calls[calls[RETRIES] == 1].drop(columns=RETRIES)
    assert "theory" not in subtitle(retry_amplification(bare, x=TIMEOUT))
    assert "theory" in subtitle(retry_amplification(bare, x=TIMEOUT, max_retries=1))
    assert "theory" in subtitle(retry_amplification(calls[calls[RETRIES] == 1], x=TIMEOUT))


def test_theory_is_the_geometric_series_up_to_certain_failure():
    failing = np.array([0.0, 0.5, 1.0])
    assert attempts_in_theory(failing, np.array([3.0, 3.0, 3.0])).tolist() == [1.0, 1.875, 4.0]


def test_under_overload_all_calls_together_are_answered_at_the_capacity():
    load = np.array([5.0, 10.0, 20.0, 1e6])
    attempts = attempts_under_load(load, 10.0, 2)
    assert attempts[:2].tolist() == [1.0, 1.0]
    failing = 1 - 10 / (20 * attempts[2])
    assert 20 * (1 - failing**3) == pytest.approx(10)
    assert attempts[3] == pytest.approx(3, abs=1e-4)


def test_a_server_that_refuses_what_it_has_no_slot_for_amplifies_as_theory_says():
    # Backoff is long against service, so that a call meets the server in states that have little in common.
    server = ServerModel(slots=20, service_time=Constant(value=2.0), queue=0)
    retry = RetryPolicy(max_retries=1, backoff=Backoff(base=20.0, maximum=20.0, jitter="full"))
    base = Experiment(backend=MockBackend(server=server), workload=OpenLoop(calls=2500))
    base = base.replace(policy=base.policy.replace(retry=retry))
    calls = Sweep(base, {RATE: [20.0, 40.0]}).run(progress=False).calls
    measured = means(calls[calls["arrived_at_s"] > 20], "attempts", RATE)["mean"]
    np.testing.assert_allclose(measured, attempts_under_load(np.array([20.0, 40.0]), 10.0, 1), rtol=0.05)


def test_with_a_capacity_theory_is_a_curve_over_the_load(calls):
    loads = calls.assign(**{RATE: 5.0 + calls["call"] % 4 * 5})
    ax = drawn(retry_amplification(loads, x=RATE, hue=RETRIES, capacity=10))
    assert ax.get_xlabel() == "rate (calls/s)"
    assert legend_texts(ax) == ["0", "1", "3", "capacity", "theory"]
    assert "a server that answers 10/s" in subtitle(ax)
    curve = max(ax.lines, key=lambda line: len(line.get_xdata()))
    assert len(curve.get_xdata()) == 200


@pytest.mark.parametrize("capacity", [0, -1.0])
def test_a_capacity_that_is_not_positive_is_refused(calls, capacity):
    with pytest.raises(ValueError, match="capacity must be more than 0"):
        retry_amplification(calls, x=TIMEOUT, capacity=capacity)


def test_a_capacity_beside_words_is_refused(calls):
    with pytest.raises(ValueError, match="fate a load in calls per second"):
        retry_amplification(calls, x="fate", capacity=1)


def test_one_call_has_no_interval_and_no_call_says_so(calls):
    ax = drawn(retry_amplification(calls.head(1), x=TIMEOUT))
    assert bars(ax.containers[0])[0][0] == bars(ax.containers[0])[0][1]
    ax = drawn(retry_amplification(calls.head(0), x=TIMEOUT, hue=RETRIES))
    assert "no calls to show" in [text.get_text() for text in ax.texts]


def test_of_many_series_it_says_how_many_it_left_out(calls):
    ax = drawn(retry_amplification(calls.assign(seed=np.arange(len(calls)) % 200), x=TIMEOUT, hue="seed"))
    assert len(ax.containers) == MAX_SERIES
    assert f"{200 - MAX_SERIES} of 200 values of seed are left out" in subtitle(ax)
