"""Which distribution measured values come from, chosen by the likelihood of values that it was not fitted to.

The families are those of `distributions.py`. A measured sample can always be replayed as it is (`Empirical`), which
overfits where values are few and knows no tail beyond them; a family wins where it predicts values unseen as well.
Values of one call are kept together, so that none is predicted from its own retry, or from the same draw in another
run of a sweep; what is drawn alike counts once in the intervals.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from llmlab.backends.distributions import Constant, Empirical, Exponential, Lognormal, Uniform
from llmlab.calibration.findings import rounded

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from llmlab.backends.distributions import Distribution

    Floats = NDArray[np.float64]

_FOLDS = 5
_CONSTANT = 1e-3
"""Values that differ by less than this share of their median are one value."""
_QUANTILES = 101
"""Points of an `Empirical`, at the most."""
_FEWEST_FOR_EMPIRICAL = 100
_UNSEEN = 0.01
"""The probability that an `Empirical` keeps, in this comparison, for values outside of what was seen."""
_GAIN = 0.005
"""Nats a value by which a sample must predict better than a family, so that few numbers are preferred to many."""


class Fit(NamedTuple):
    """A distribution fitted to values.

    Attributes:
        distribution: the one chosen.
        size: how many values it was fitted to.
        intervals: 95% intervals of its parameters, by name, where the family has them.
        held_out: for each family the mean log density of held-out values; empty where nothing was to be chosen.
    """

    distribution: Distribution
    size: int
    intervals: dict[str, tuple[float, float]]
    held_out: dict[str, float]

    def said(self) -> str:
        """Say how it was chosen."""
        if not self.held_out:
            return f"{self.size:,} values"
        scores = ", ".join(f"{name} {score:.3f}" for name, score in _best_first(self.held_out))
        return f"{self.size:,} values; log likelihood of a held-out value: {scores}"


def fit_distribution(values: Floats, calls: NDArray[Any], cut: Floats | None = None) -> Fit:
    """Return the distribution that predicts held-out values best.

    Args:
        values: what was measured, each positive.
        calls: which call each value belongs to.
        cut: values of which only a lower bound is known, because they were cut short (right-censored).

    Raises:
        ValueError: there are no values.
    """
    cut = np.empty(0) if cut is None else cut
    if values.size == 0:
        raise ValueError("a distribution cannot be fitted to no values")
    middle = float(np.median(values))
    if cut.size == 0 and (values.size < 2 or np.ptp(np.quantile(values, [0.005, 0.995])) <= _CONSTANT * middle):
        return Fit(Constant(value=rounded(middle)), values.size, {}, {})
    families = [name for name in _FAMILIES if _suits(name, values, cut)]
    scores = {name: _held_out(_FAMILIES[name], values, calls, cut) for name in families}
    best = max(scores, key=lambda name: scores[name] - (_GAIN if name == "empirical" else 0.0))
    chosen = _FAMILIES[best](values, cut)
    return Fit(chosen.distribution, values.size, chosen.intervals(different_values(values)), scores)


def different_values(values: Floats) -> Floats:
    """Return the values that differ by more than rounding: runs of a sweep draw the same ones again."""
    return np.asarray(np.unique(np.array([float(f"{value:.9g}") for value in values])))


def _best_first(scores: dict[str, float]) -> list[tuple[str, float]]:
    return sorted(scores.items(), key=lambda item: -item[1])


def _suits(name: str, values: Floats, cut: Floats) -> bool:
    if name == "empirical":
        return values.size >= _FEWEST_FOR_EMPIRICAL and cut.size < 0.01 * values.size
    return name != "uniform" or cut.size == 0


def _held_out(family: Callable[[Floats, Floats], _Family], values: Floats, calls: NDArray[Any], cut: Floats) -> float:
    """Return the mean log density of values under a family that was fitted to the other folds."""
    _, numbers = np.unique(calls, return_inverse=True)
    folds = np.random.default_rng(0).permutation(int(numbers.max()) + 1)[numbers] % min(_FOLDS, len(values))
    total = 0.0
    for fold in np.unique(folds):
        own = folds == fold
        if own.all():
            return -math.inf
        total += float(family(values[~own], cut).log_density(values[own]).sum())
    return total / len(values)


class _Family:
    """A family fitted to values."""

    distribution: Distribution

    def log_density(self, values: Floats) -> Floats:
        raise NotImplementedError

    def intervals(self, values: Floats) -> dict[str, tuple[float, float]]:
        del values
        return {}


class _Lognormal(_Family):
    def __init__(self, values: Floats, cut: Floats) -> None:
        logs = np.log(values)
        if cut.size:
            sample = stats.CensoredData(uncensored=logs, right=np.log(cut))
            mean, spread = stats.norm.fit(sample)
        else:
            mean, spread = logs.mean(), logs.std()
        self._mean, self._spread = float(mean), max(float(spread), 1e-9)
        self.distribution = Lognormal(median=rounded(math.exp(self._mean)), sigma=rounded(self._spread))

    def log_density(self, values: Floats) -> Floats:
        logs = np.log(values)
        return np.asarray(stats.norm.logpdf(logs, self._mean, self._spread) - logs)

    def intervals(self, values: Floats) -> dict[str, tuple[float, float]]:
        count = values.size
        reach = 1.96 * self._spread / math.sqrt(count)
        ends = self._spread * np.sqrt(count / np.asarray(stats.chi2.ppf([0.975, 0.025], max(count - 1, 1))))
        return {
            "median": (math.exp(self._mean - reach), math.exp(self._mean + reach)),
            "sigma": (float(ends[0]), float(ends[1])),
        }


class _Exponential(_Family):
    def __init__(self, values: Floats, cut: Floats) -> None:
        self._mean = float((values.sum() + cut.sum()) / values.size)
        self.distribution = Exponential(mean=rounded(self._mean))

    def log_density(self, values: Floats) -> Floats:
        return np.asarray(-values / self._mean - math.log(self._mean))

    def intervals(self, values: Floats) -> dict[str, tuple[float, float]]:
        ends = 2 * values.size * self._mean / np.asarray(stats.chi2.ppf([0.975, 0.025], 2 * values.size))
        return {"mean": (float(ends[0]), float(ends[1]))}


class _Uniform(_Family):
    def __init__(self, values: Floats, cut: Floats) -> None:
        del cut
        low, high = float(values.min()), float(values.max())
        beyond = (high - low) / max(values.size - 1, 1)  # the expected distance of the extremes from the true ends
        self._low, self._high = max(low - beyond, 0.0), high + beyond
        self.distribution = Uniform(low=rounded(self._low), high=rounded(self._high))

    def log_density(self, values: Floats) -> Floats:
        inside = (values >= self._low) & (values <= self._high)
        wide = self._high - self._low
        # What lies outside is not impossible: the ends are estimates. It gets the density of one value in so many.
        return np.where(inside, -math.log(wide), -math.log(wide) - 10.0)

    def intervals(self, values: Floats) -> dict[str, tuple[float, float]]:
        reach = -math.log(0.05) * (self._high - self._low) / values.size
        low, high = float(values.min()), float(values.max())
        return {"low": (max(low - reach, 0.0), low), "high": (high, high + reach)}


class _Empirical(_Family):
    def __init__(self, values: Floats, cut: Floats) -> None:
        del cut
        points = np.quantile(values, np.linspace(0, 1, min(_QUANTILES, values.size)))
        self.distribution = Empirical(values=[rounded(point) for point in points])
        self._edges, first = np.unique(points, return_index=True)
        self._density = np.diff(first) / (len(points) - 1) / np.diff(self._edges)
        self._mean = float(values.mean())

    def log_density(self, values: Floats) -> Floats:
        place = np.clip(np.searchsorted(self._edges, values, side="right") - 1, 0, len(self._density) - 1)
        inside = (values >= self._edges[0]) & (values <= self._edges[-1])
        seen = np.where(inside, self._density[place], 0.0)
        return np.asarray(np.log((1 - _UNSEEN) * seen + _UNSEEN * np.exp(-values / self._mean) / self._mean))


_FAMILIES: dict[str, Callable[[Floats, Floats], _Family]] = {
    "lognormal": _Lognormal,
    "exponential": _Exponential,
    "uniform": _Uniform,
    "empirical": _Empirical,
}
