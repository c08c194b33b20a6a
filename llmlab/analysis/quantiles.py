"""Quantiles of the distributions behind the intervals, by `scipy.special`.

`scipy.stats` has the same ones, and takes most of a second to load: as long as a small sweep. So what every summary
and chart needs stands here, and a test holds it equal to `scipy.stats`. What is rarely needed (a bootstrap, a test of
two samples) loads `scipy.stats` where it is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import special

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    Numbers = NDArray[np.float64]


def students_t(tail: float, degrees: ArrayLike) -> Any:
    """Return what Student's t exceeds with probability `tail`; NaN where there is no degree of freedom.

    The same as `scipy.stats.t.isf`. A number gives a number, an array an array.
    """
    return -special.stdtrit(np.asarray(degrees, dtype=np.float64), tail)


def normal(tail: float) -> float:
    """Return what a standard normal variable exceeds with probability `tail`: `scipy.stats.norm.isf`."""
    return -float(special.ndtri(tail))


def normal_tail(value: float) -> float:
    """Return the probability that a standard normal variable exceeds this: `scipy.stats.norm.sf`."""
    return float(special.ndtr(-value))


def beta(tail: float, a: Numbers, b: Numbers) -> tuple[Any, Any]:
    """Return what a beta variable stays below and what it exceeds, each with probability `tail`: `ppf` and `isf`."""
    return special.betaincinv(a, b, tail), special.betainccinv(a, b, tail)


def binomial(tail: float, n: int, p: Numbers) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the smallest numbers of successes in n that are exceeded with probability 1 - `tail` and `tail` at most.

    The same as `ppf` and `isf` of `scipy.stats.binom`.
    """
    low = _smallest(special.bdtrik(tail, n, p), n, lambda k: special.bdtr(k, n, p) >= tail)
    return low, _smallest(special.bdtrik(1 - tail, n, p), n, lambda k: special.bdtrc(k, n, p) <= tail)


def _smallest(root: Numbers, n: int, holds: Callable[[Numbers], Any]) -> NDArray[np.int64]:
    """Return the smallest whole number for which a statement holds whose real root is known, up to rounding."""
    k = np.clip(np.ceil(root), 0, n)
    k = np.where((k > 0) & holds(np.maximum(k - 1, 0)), k - 1, k)
    return np.where(holds(k), k, k + 1).astype(np.int64)
