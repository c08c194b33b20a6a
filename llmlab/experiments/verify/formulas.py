"""Queueing theory in closed form: what the simulated server must agree with.

Rates are per second, times in seconds. `rho` is the load per slot; `load` is the offered load in erlangs, the arrival
rate times the mean service time. Look next at `queues.py`, which compares.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


def erlang_b(slots: int, load: float) -> float:
    """Return the share of calls lost where none may wait: Erlang 1917, by the recursion over the slots."""
    blocked = 1.0
    for number in range(1, slots + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked


def erlang_c(slots: int, rho: float) -> float:
    """Return the share of calls that must wait in an M/M/c queue without bound: Erlang 1917."""
    blocked = erlang_b(slots, slots * rho)
    return blocked / (1.0 - rho * (1.0 - blocked))


class Wait(NamedTuple):
    """The wait in an M/M/c queue: it is 0 with probability `1 - probability`, else exponential with this `rate`."""

    probability: float
    rate: float

    @property
    def mean(self) -> float:
        """The mean wait of all calls, those that need not wait included."""
        return self.probability / self.rate

    def quantile(self, q: float) -> float:
        """Return the wait that a share `q` of all calls stays below."""
        return max(0.0, math.log(self.probability / (1.0 - q)) / self.rate)

    def longer_than(self, seconds: float) -> float:
        """Return the share of calls that wait longer."""
        return self.probability * math.exp(-self.rate * seconds)


def mmc_wait(slots: int, rho: float, service: float = 1.0) -> Wait:
    """Return the wait of an M/M/c queue: P(W > t) = C e^(-c (1 - rho) t / S)."""
    return Wait(erlang_c(slots, rho), slots * (1.0 - rho) / service)


def mg1_mean_wait(rho: float, second_moment: float) -> float:
    """Return the mean wait of an M/G/1 queue whose mean service is 1: Pollaczek 1930, Khinchine 1932."""
    return rho * second_moment / (2.0 * (1.0 - rho))


def stationary(births: Sequence[float], deaths: Sequence[float]) -> list[float]:
    """Return the probabilities of 0, 1, ... in the system of a birth-death process.

    Args:
        births: the rate from n to n + 1, for n from 0.
        deaths: the rate from n + 1 to n, for n from 0.
    """
    weights = [1.0]
    for birth, death in zip(births, deaths, strict=True):
        weights.append(weights[-1] * birth / death)
    total = sum(weights)
    return [weight / total for weight in weights]


def relaxation_calls(rho: float) -> float:
    """Return after how many calls an M/M/c queue has forgotten its start but for 1/e: rho / (1 - sqrt(rho))^2.

    The spectral gap of the M/M/c queue near saturation is c (1 - sqrt(rho))^2 / S (Morse 1955 for c = 1).
    """
    return rho / (1.0 - math.sqrt(rho)) ** 2
