"""Two settings against each other, call by call: what chance did to both cancels out.

Runs of a sweep meet the same chance (common random numbers): call 17 of replicate 0 draws the same arrival, latency and
faults under every policy. So settings are compared by the *differences* of paired calls, which vary far less than the
calls do; a comparison says how many calls it would have taken without pairing. Source: A. M. Law, "Simulation Modeling
and Analysis" (5th ed., 2015), section 11.2. Look next at `clusters.py`: pairs of one run depend on each other.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

import numpy as np
import pandas as pd

from llmlab.analysis.bootstrap import ENOUGH_CLUSTERS, evaluator, of_clusters
from llmlab.analysis.clusters import cluster_sums, clusters
from llmlab.analysis.columns import need_columns
from llmlab.analysis.estimates import mean_estimate
from llmlab.analysis.groups import Groups
from llmlab.analysis.stats import check_confidence, clopper_pearson
from llmlab.core.display import grid, laid_out

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

Correction = Literal["holm", "benjamini-hochberg"]
"""How p-values of many comparisons are adjusted."""

_RESAMPLES, _SEED = 999, 0
_FEW = 10  # pairs that differ in an outcome of yes or no


class Comparison(NamedTuple):
    """What was measured of a and of b, and the difference b - a with its interval.

    `calls_without_pairing` is how many calls of each it would take to be as sure if a and b had each met chance of its
    own; NaN where that cannot be said. `p_value` is that of no difference, NaN for quantiles.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    p_value: float
    pairs: int
    calls_without_pairing: float
    note: str

    @property
    def differs(self) -> bool:
        """Whether the interval excludes 0."""
        return self.low > 0 or self.high < 0

    def __repr__(self) -> str:
        return laid_out("Comparison", self._asdict().items())

    def _repr_html_(self) -> str:
        return grid(str(self), self._fields, [self])

    def __str__(self) -> str:
        """Say it in a sentence."""
        told = "" if self.differs else ", which may be chance"
        saved = self.calls_without_pairing / self.pairs if self.pairs else math.nan
        pairing = f"; without pairing it would take {saved:.1f} times the calls" if saved > 1 else ""
        note = f" ({self.note})" if self.note else ""
        return (
            f"{self.a:.4g} against {self.b:.4g}: a difference of {self.difference:+.4g} "
            f"({self.low:+.4g} to {self.high:+.4g}) over {self.pairs:,} pairs{told}{pairing}{note}"
        )


def compare(
    a: pd.DataFrame,
    b: pd.DataFrame,
    value: str = "latency_s",
    *,
    statistic: Literal["mean"] | float = "mean",
    confidence: float = 0.95,
) -> Comparison:
    """Return how much b differs from a in a column of their calls, over calls paired by run and number.

        calls = result.calls
        retries = calls["policy.retry.max_retries"]
        print(compare(calls[retries == 0], calls[retries == 2], "answered"))

    Args:
        a: the calls of one setting: one or several replicates.
        b: those of the other, from the same sweep, so that they met the same chance.
        value: a column of numbers or of yes and no: `latency_s`, `attempts`, `answered`, ...
        statistic: `"mean"`, or a quantile (0.95 for p95). A difference of quantiles is bootstrapped.
        confidence: of the interval.

    Raises:
        TypeError: a or b is no data frame.
        KeyError: a frame lacks the column.
        ValueError: a frame holds several settings, no call of a has a partner in b, a value is NaN or no number, the
            statistic is neither, or the confidence is not strictly between 0 and 1.
    """
    check_confidence(confidence)
    pairs, note = _paired(a, b, value)
    first, second = pairs["a"].to_numpy(dtype=np.float64), pairs["b"].to_numpy(dtype=np.float64)
    if np.isnan(first).any() or np.isnan(second).any():
        raise ValueError(f"column '{value}' holds NaN; leave out the calls that have no value, and say so")
    labels = np.unique(clusters(pairs.drop(columns=["a", "b"]), pieces=ENOUGH_CLUSTERS), return_inverse=True)[1]
    if statistic != "mean":
        return _of_quantiles(first, second, labels, q=statistic, confidence=confidence, note=note)
    difference = second - first
    estimate = mean_estimate(difference, labels, confidence)
    low, high = estimate.low, estimate.high
    if a[value].dtype == bool:
        low, high, note = _of_outcomes(difference, (low, high), confidence, note)
    return Comparison(
        float(first.mean()),
        float(second.mean()),
        estimate.value,
        low,
        high,
        _p_value(difference, labels),
        len(difference),
        len(difference) * _variance_ratio(first, second, labels),
        note,
    )


def compare_all(
    calls: pd.DataFrame,
    by: Sequence[str] | str,
    baseline: Mapping[str, Any],
    value: str = "latency_s",
    *,
    confidence: float = 0.95,
    correction: Correction = "holm",
) -> pd.DataFrame:
    """Return every setting compared with one of them by the mean of a column: a row each, without the baseline's own.

    Columns: those of `by`, those of `Comparison`, and `p_adjusted`, which allows for the number of comparisons.

    Args:
        calls: the calls of a sweep.
        by: the columns that tell settings apart.
        baseline: for each of these the value of the setting to compare with.
        value: the column to compare by.
        confidence: of each interval by itself.
        correction: how p-values are adjusted; see `adjusted`.

    Raises:
        KeyError: the frame lacks a column.
        ValueError: the baseline is no setting of the calls, or as in `compare`.
    """
    groups = Groups(calls, by)
    names = groups.by
    if set(baseline) != set(names):
        raise ValueError(f"baseline must give a value for each of {names}, got {dict(baseline)}")
    keys = list(groups.keys.itertuples(index=False, name=None))
    wanted = tuple(baseline[name] for name in names)
    base = next((place for place, key in enumerate(keys) if _same(key, wanted)), None)
    if base is None:
        raise ValueError(f"no calls with the baseline's values {dict(baseline)}; there are {keys}")
    of_each = [calls[groups.codes == place] for place in range(len(groups))]
    others = [place for place in range(len(groups)) if place != base]
    found = [compare(of_each[base], of_each[other], value, confidence=confidence) for other in others]
    table = pd.DataFrame(found, columns=list(Comparison._fields))
    table["p_adjusted"] = adjusted(table["p_value"], correction)
    return pd.concat([groups.keys.iloc[others].reset_index(drop=True), table], axis="columns")


def adjusted(p_values: ArrayLike, correction: Correction = "holm") -> NDArray[np.float64]:
    """Return p-values adjusted for how many they are: compare them with 0.05 as if each were the only one.

    `holm` bounds the chance of a single false alarm (S. Holm, Scandinavian Journal of Statistics 6, 1979);
    `benjamini-hochberg` the share of false ones among the alarms (`scipy.stats.false_discovery_control`).

    NaN, of what too few calls can tell, stays NaN and does not count.

    Raises:
        ValueError: a p-value is not between 0 and 1, or there is no such correction.
    """
    given = np.asarray(p_values, dtype=np.float64)
    if correction not in get_args(Correction):
        raise ValueError(f"correction must be one of {list(get_args(Correction))}, got {correction!r}")
    known = given[~np.isnan(given)]
    if not ((known >= 0) & (known <= 1)).all():
        raise ValueError(f"p-values must lie between 0 and 1, got {given.tolist()}")
    result = given.copy()
    if known.size:
        result[~np.isnan(given)] = _adjusted(known, correction)
    return result


def _adjusted(given: NDArray[np.float64], correction: Correction) -> NDArray[np.float64]:
    if correction == "benjamini-hochberg":
        from scipy import stats  # noqa: PLC0415 - late, as `quantiles.py` says

        return np.asarray(stats.false_discovery_control(given), dtype=np.float64)
    order = np.argsort(given, kind="stable")
    steps = np.minimum(1.0, np.maximum.accumulate(given[order] * np.arange(given.size, 0, -1)))
    result = np.empty_like(given)
    result[order] = steps
    return result


def _paired(a: pd.DataFrame, b: pd.DataFrame, value: str) -> tuple[pd.DataFrame, str]:
    """Return the calls that both have, with both values, and a note on those that only one has."""
    for name, frame in (("a", a), ("b", b)):
        need_columns(frame, [value])
        if not pd.api.types.is_numeric_dtype(frame[value]):  # booleans are
            raise ValueError(f"column '{value}' holds no numbers in {name}; compare one of numbers or of yes and no")
    keys = [name for name in ("replicate", "seed", "call") if name in a.columns and name in b.columns]
    for name, frame in (("a", a), ("b", b)):
        if frame.duplicated(keys).any():
            raise ValueError(f"{name} holds several calls of the same {keys}; select the calls of one setting")
    both = a[[*keys, value]].rename(columns={value: "a"}).merge(b[[*keys, value]].rename(columns={value: "b"}), on=keys)
    if both.empty:
        raise ValueError(
            f"no call of a has a partner in b: none agree in {keys}; take both from one sweep: its settings share seeds"
        )
    alone = len(a) + len(b) - 2 * len(both)
    return both, f"{alone:,} calls without a partner are left out" if alone else ""


def _of_quantiles(
    first: NDArray[np.float64],
    second: NDArray[np.float64],
    labels: NDArray[np.int64],
    *,
    q: float,
    confidence: float,
    note: str,
) -> Comparison:
    of_a, of_b = evaluator(first, labels, q), evaluator(second, labels, q)
    count = int(labels.max()) + 1
    found = of_clusters(
        lambda counts: of_b(counts) - of_a(counts),
        count,
        confidence=confidence,
        resamples=_RESAMPLES,
        seed=_SEED,
        smooth=False,
    )
    each = np.ones((1, count))
    return Comparison(
        float(of_a(each)[0]),
        float(of_b(each)[0]),
        found.estimate,
        found.low,
        found.high,
        math.nan,
        len(first),
        math.nan,
        "; ".join(filter(None, [note, found.note])),
    )


def _of_outcomes(
    difference: NDArray[np.float64], ends: tuple[float, float], confidence: float, note: str
) -> tuple[float, float, str]:
    """Widen the interval of a difference of rates where no pair differs, and warn where few do."""
    differing = int(np.count_nonzero(difference))
    if differing >= _FEW:
        return *ends, note
    if differing == 0:
        bound = float(clopper_pearson(0, len(difference), confidence).high)
        return -bound, bound, "; ".join(filter(None, [note, "no pair differs"]))
    words = f"only {differing} pair{'s differ' if differing > 1 else ' differs'}, so the interval is rough"
    return *ends, "; ".join(filter(None, [note, words]))


def _p_value(difference: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    sums, sizes = cluster_sums(difference, labels)
    means = sums / sizes
    if len(means) < 2:
        return math.nan
    if np.ptp(means) == 0:
        return 1.0 if means[0] == 0 else 0.0
    from scipy import stats  # noqa: PLC0415 - late, as `quantiles.py` says

    return float(stats.ttest_1samp(means, 0.0).pvalue)


def _variance_ratio(first: NDArray[np.float64], second: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return how much larger the variance of the difference would be if a and b were independent."""
    sums, sizes = cluster_sums(first, labels)
    others, _ = cluster_sums(second, labels)
    if len(sizes) < 2:
        return math.nan
    apart = np.var(sums / sizes) + np.var(others / sizes)
    together = np.var((others - sums) / sizes)
    return float(apart / together) if together > 0 else math.nan


def _same(key: Any, wanted: tuple[Any, ...]) -> bool:
    """Whether a group's key has these values; a setting that was None is NaN in a frame."""
    return all((value is None and pd.isna(own)) or own == value for own, value in zip(key, wanted, strict=True))
