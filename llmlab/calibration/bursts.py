"""Whether failures come together, and how long the bad times are that they come in.

A runs test asks whether failures follow each other more often than chance lets them (A. Wald and J. Wolfowitz, Annals
of Mathematical Statistics 11, 1940). If they do, the two-state process of `Burst` is fitted by its exact likelihood,
each attempt being one look at it, at its own time (E. N. Gilbert, Bell System Technical Journal 39, 1960; the forward
recursion of L. Rabiner, Proceedings of the IEEE 77, 1989).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from scipy import optimize, stats

from llmlab.calibration.findings import rounded

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]

_FEWEST = 10
_SIGNIFICANT = 1e-3
_FEWEST_BAD_TIMES = 2
_MOST_LOOKS = 6000
_GAIN = 10.0
"""Log likelihood by which bursts must explain the failures better than independent ones: three more parameters."""


class Bursts(NamedTuple):
    """A two-state process fitted to failures; times in seconds, probabilities from 0 to 1."""

    mean_good: float
    mean_bad: float
    probability: float
    otherwise: float
    bad_times: float
    """How many bad times were seen, as expected from the rest: their lengths are known to about one in its root."""


def runs_test(failed: Bools) -> float:
    """Return the probability of so few runs of failures and successes, or fewer, if failures were independent."""
    count, bad = len(failed), int(failed.sum())
    good = count - bad
    if min(good, bad) < _FEWEST:
        return 1.0
    runs = 1 + int((failed[1:] != failed[:-1]).sum())
    mean = 2 * good * bad / count + 1
    variance = (mean - 1) * (mean - 2) / (count - 1)
    return float(stats.norm.cdf((runs + 0.5 - mean) / math.sqrt(variance)))


def fit_bursts(times: Floats, failed: Bools, opens: Bools) -> Bursts | None:
    """Return the bursts that failures come in; `None` where independent ones explain them as well.

    Args:
        times: when each attempt was made, in order.
        failed: which of them met the failure.
        opens: which of them are the first of a run; each run begins in a good time.
    """
    if runs_test(failed) > _SIGNIFICANT:
        return None
    some = _around_failures(failed)
    times, failed, opens = times[some], failed[some], opens[some]
    if min(failed.sum(), (~failed).sum()) < _FEWEST:
        return None
    gaps = np.diff(times, prepend=times[0])
    gaps[opens] = np.inf
    span = float(gaps[np.isfinite(gaps)].sum())
    share = float(failed.mean())
    looks = list(zip(gaps.tolist(), failed.tolist(), strict=True))
    independent = len(failed) * (share * math.log(share) + (1 - share) * math.log1p(-share))
    bad = max(_mean_length(times, failed), 1e-3 * span)
    start = np.array([math.log(max(span / _clusters(failed) - bad, bad)), math.log(bad), _logit(0.9), _logit(0.01)])

    def misfit(point: Floats) -> float:
        good_s, bad_s = (math.exp(min(max(value, -20.0), 20.0)) for value in point[:2])
        return -_log_likelihood(looks, good_s, bad_s, _expit(point[2]), _expit(point[3]))

    best = optimize.minimize(
        misfit, start, method="Nelder-Mead", options={"xatol": 0.003, "fatol": 0.02, "maxiter": 400}
    )
    good_s, bad_s = math.exp(best.x[0]), math.exp(best.x[1])
    if -float(best.fun) - independent < _GAIN or span < _FEWEST_BAD_TIMES * (good_s + bad_s):
        return None
    probability, otherwise = _expit(best.x[2]), _expit(best.x[3])
    bad_times = span / (good_s + bad_s)
    return Bursts(rounded(good_s), rounded(bad_s), rounded(probability), rounded(otherwise), bad_times)


def _around_failures(failed: Bools) -> slice:
    """Return so many looks as can be gone through, with the middle one of the failures amid them."""
    bad = np.flatnonzero(failed)
    begin = min(max(int(bad[len(bad) // 2]) - _MOST_LOOKS // 2, 0), max(len(failed) - _MOST_LOOKS, 0))
    return slice(begin, begin + _MOST_LOOKS)


def _clusters(failed: Bools) -> int:
    return max(int((failed[1:] & ~failed[:-1]).sum()), 1)


def _mean_length(times: Floats, failed: Bools) -> float:
    """Return how long failures go on without a success between them, on average."""
    begins = np.flatnonzero(failed & ~np.concatenate([[False], failed[:-1]]))
    ends = np.flatnonzero(failed & ~np.concatenate([failed[1:], [False]]))
    return float(np.maximum(times[ends] - times[begins], 0).mean())


def _log_likelihood(looks: list[tuple[float, bool]], good_s: float, bad_s: float, p: float, otherwise: float) -> float:
    share, rate = bad_s / (good_s + bad_s), 1 / good_s + 1 / bad_s
    total, bad = 0.0, 0.0
    for gap, failed in looks:
        bad = 0.0 if gap == math.inf else share + (bad - share) * math.exp(-rate * gap)
        in_bad, in_good = (p, otherwise) if failed else (1 - p, 1 - otherwise)
        likelihood = bad * in_bad + (1 - bad) * in_good
        total += math.log(max(likelihood, 1e-300))
        bad = bad * in_bad / max(likelihood, 1e-300)
    return total


def _logit(p: float) -> float:
    return math.log(p / (1 - p))


def _expit(x: float) -> float:
    return 1 / (1 + math.exp(-min(max(x, -16.0), 16.0)))
