import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from llmlab.analysis import quantiles
from llmlab.analysis.stats import wilson

TAILS = [0.4, 0.25, 0.05, 0.025, 0.005, 1e-5]


@pytest.mark.parametrize("tail", TAILS)
def test_students_t_is_scipys_down_to_no_degree_of_freedom(tail):
    degrees = np.array([-1, 0, 1, 2, 5, 29, 1000, 10**7])
    np.testing.assert_allclose(quantiles.students_t(tail, degrees), stats.t.isf(tail, degrees), rtol=1e-12)


@pytest.mark.parametrize("tail", TAILS)
def test_the_normal_and_the_beta_distribution_are_scipys(tail):
    assert quantiles.normal(tail) == pytest.approx(stats.norm.isf(tail), rel=1e-12)
    assert quantiles.normal_tail(quantiles.normal(tail)) == pytest.approx(tail, rel=1e-12)
    a, b = np.array([0.5, 1.0, 3.0, 250.0, 1e6]), np.array([4.0, 1.0, 0.5, 9.5, 1e3])
    below, above = quantiles.beta(tail, a, b)
    np.testing.assert_allclose(below, stats.beta.ppf(tail, a, b), rtol=1e-9)
    np.testing.assert_allclose(above, stats.beta.isf(tail, a, b), rtol=1e-9)


@pytest.mark.parametrize("tail", TAILS)
@pytest.mark.parametrize("n", [1, 2, 3, 10, 99, 100, 367, 368, 5_000, 10**7])
def test_the_binomial_ranks_are_scipys(n, tail):
    p = np.array([1e-4, 0.011, 0.1, 0.26, 0.5, 0.77, 0.95, 0.99, 0.9999])
    below, above = quantiles.binomial(tail, n, p)
    assert below.tolist() == stats.binom.ppf(tail, n, p).tolist()
    assert above.tolist() == stats.binom.isf(tail, n, p).tolist()


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95, 0.999])
def test_wilsons_interval_is_scipys(confidence):
    n = 37
    low, high = wilson(np.arange(n + 1), n, confidence)
    ends = [stats.binomtest(k, n).proportion_ci(confidence, method="wilson") for k in range(n + 1)]
    np.testing.assert_allclose(low, [one.low for one in ends], rtol=1e-12)
    np.testing.assert_allclose(high, [one.high for one in ends], rtol=1e-12)


def test_a_sweep_its_summary_and_a_chart_do_without_loading_pyplot_and_scipys_statistics():
    program = """if True:
        import sys
        from llmlab import ClosedLoop, Experiment, Sweep, plots
        result = Sweep(Experiment(workload=ClosedLoop(calls=20)), {"backend.timeout_probability": [0, 0.5]}).run()
        result.summary()
        plots.failure_rate(result.calls, x="backend.timeout_probability")
        assert "pandas" in sys.modules
        assert "scipy.stats" not in sys.modules
        assert "matplotlib.pyplot" not in sys.modules  # outside a notebook
    """
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
