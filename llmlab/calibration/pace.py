"""How long the work of an attempt is: from the phases of attempts to the settings of a law of service."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy import stats

from llmlab.calibration.families import Fit, fit_distribution
from llmlab.calibration.findings import Found, Unknown, exactly, rounded
from llmlab.calibration.surprise import RESOLUTION

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmlab.backends.distributions import Distribution
    from llmlab.calibration.surprise import Phases, Service
    from llmlab.calibration.visits import Visits

    Floats = NDArray[np.float64]

_MOST_PAIRED = 1200
"""Attempts by which the slope is told: it looks at every pair of them."""
_VARIED_PROMPTS = "send prompts of different lengths, such as 50 and 2,000 tokens"


class Pace(NamedTuple):
    """The work of an attempt.

    Attributes:
        settings: of a `ServerModel`: `service_time`, or `decode_rate` and what goes with it.
        share: the share of the work that passes before the first token; `None` where it goes by tokens or is unknown.
        found, unknown: the rows of the report.
    """

    settings: dict[str, Any]
    share: float | None
    found: list[Found]
    unknown: list[Unknown]

    def before_first_token(self, phases: Phases) -> Floats:
        """Return how much work passes before the first token of each attempt, as expected from what else is known."""
        if "decode_rate" not in self.settings:
            if self.share is None:
                return np.full(len(phases.rest), _middle(self.settings["service_time"]))
            return phases.rest * self.share / max(1 - self.share, 1e-9)
        expected = np.full(len(phases.rest), 1 / self.settings["decode_rate"])
        if "prefill_rate" in self.settings:
            expected += np.nan_to_num(phases.read) / self.settings["prefill_rate"]
        if "time_to_first_token" in self.settings:
            expected += _middle(self.settings["time_to_first_token"])
        return expected


def _middle(distribution: Distribution) -> float:
    return float(distribution.at(0.5))


def pace_of(visits: Visits, service: Service) -> Pace:
    """Return the settings of the law by which the attempts were served."""
    phases = service.phases(visits)
    calls = visits.call[service.used]
    if service.law == "tokens":
        return _by_tokens(phases, calls)
    return _by_time(phases, calls, _cut_work(visits, service))


def _cut_work(visits: Visits, service: Service) -> Floats:
    """Return the work that was done on attempts that their client ended: of theirs, the least that it can be."""
    cut = visits.cut & ~np.isnan(service.starts) & (visits.left > service.starts)
    return service.busy.work(service.starts[cut], visits.left[cut], service.slowdown)


def _by_time(phases: Phases, calls: NDArray[Any], cut: Floats) -> Pace:
    fit = fit_distribution(phases.total, calls, cut)
    found = rows_of(fit, "server.service_time", "s")
    if phases.first is None:
        why = "the events have no time to the first token"
        return Pace(
            {"service_time": fit.distribution},
            None,
            found,
            [Unknown("first_token_share", "0.25", why, "record streamed answers")],
        )
    shares = phases.first / phases.total
    share = rounded(float(np.median(shares)))
    reach = 1.2533 * 1.96 * float(shares.std()) / math.sqrt(len(shares))
    low, high = max(share - reach, 0.0), min(share + reach, 1.0)
    found.append(Found("first_token_share", share, low, high, "", "median share of the work before the first token"))
    return Pace({"service_time": fit.distribution}, share, found, [])


def _by_tokens(phases: Phases, calls: NDArray[Any]) -> Pace:
    assert phases.first is not None  # noqa: S101 - for the type checker: the law goes by the first token
    decode = _decode_rate(phases)
    settings: dict[str, Any] = {"decode_rate": decode.value}
    found, unknown = [decode], []
    before = phases.first - 1 / decode.value
    prefill, why = _prefill(before, phases)
    if prefill is None:
        unknown.append(Unknown("server.prefill_rate", "prompts are read at once", why, _VARIED_PROMPTS))
    else:
        settings["prefill_rate"] = prefill.value
        found.append(prefill)
        before = before - phases.read / prefill.value
    noise = 2 * RESOLUTION * float(np.median(phases.total))
    if float(np.median(before)) > noise or float(np.quantile(before, 0.9)) > 5 * noise:
        fit = fit_distribution(np.maximum(before, noise / 10), calls)
        settings["time_to_first_token"] = fit.distribution
        found += rows_of(fit, "server.time_to_first_token", "s")
    return Pace(settings, None, found, unknown)


def _decode_rate(phases: Phases) -> Found:
    """Return the tokens written per second by an attempt that is alone: all tokens over all work, without outliers."""
    rates = phases.steps / phases.rest
    middle = float(np.median(rates))
    near = 3 * 1.4826 * float(np.median(np.abs(rates - middle))) + RESOLUTION * middle
    kept = np.abs(rates - middle) <= near
    steps, work = phases.steps[kept], phases.rest[kept]
    rate = float(steps.sum() / work.sum())
    reach = 1.96 * rate * float((steps - rate * work).std()) / float(steps.mean()) / math.sqrt(len(steps))
    how = f"{steps.sum():,.0f} tokens after the first of {len(steps):,} answers"
    return Found("server.decode_rate", rounded(rate), rate - reach, rate + reach, "tokens/s", how)


def _prefill(before: Floats, phases: Phases) -> tuple[Found | None, str]:
    """Return the prompt tokens read per second, or why that cannot be told (Theil and Sen's slope)."""
    read = phases.read
    if np.isnan(read).any():
        return None, "the events have no prompt tokens"
    if np.ptp(read) < 0.1 * max(float(np.median(read)), 1.0):
        return None, "all prompts are about as long"
    some = np.unique(np.linspace(0, len(read) - 1, min(len(read), _MOST_PAIRED)).astype(int))
    slope, _, low, high = (float(value) for value in stats.theilslopes(before[some], read[some]))
    if low <= 0 or slope * float(np.ptp(read)) < RESOLUTION * float(np.median(phases.total)):
        return None, "longer prompts did not take longer for certain"
    how = f"time to the first token against prompt tokens, {read.min():,.0f} to {read.max():,.0f}"
    return Found("server.prefill_rate", rounded(1 / slope), 1 / high, 1 / low, "tokens/s", how), ""


def output_tokens(visits: Visits) -> tuple[Distribution | None, list[Found]]:
    """Return how many tokens answers have; `None` where nobody counted."""
    known = visits.answered & (visits.wrote >= 1)
    if not known.any():
        return None, []
    fit = fit_distribution(visits.wrote[known], visits.call[known])
    return fit.distribution, rows_of(fit, "server.output_tokens", "tokens")


def rows_of(fit: Fit, path: str, unit: str) -> list[Found]:
    """Return the rows of the report for a distribution: one for each of its parameters."""
    values = {name: getattr(fit.distribution, name) for name in type(fit.distribution).model_fields if name != "kind"}
    kind = f"{fit.distribution.kind}, {fit.said()}"
    if "values" in values:
        at = fit.distribution.at
        return [exactly(f"{path}.p{100 * q:g}", at(q), unit, kind) for q in (0.5, 0.95)]
    nowhere = (math.nan, math.nan)
    return [
        Found(f"{path}.{name}", value, *fit.intervals.get(name, nowhere), "" if name == "sigma" else unit, kind)
        for name, value in values.items()
    ]


def refusal_time(took: Floats, calls: NDArray[Any]) -> Fit | None:
    """Return how long refusals take; `None` where there were none."""
    positive = took > 0
    return fit_distribution(took[positive], calls[positive]) if positive.any() else None
