"""What the clients did while it was recorded: their load and their policy, so that it can be done again in simulation.

An experiment's settings say it themselves. Where there are only events, they tell most of it: who comes as soon as
another leaves is a user of a closed loop, everyone else comes by the clock.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from pydantic import TypeAdapter

from llmlab.calibration.occupancy import most_present
from llmlab.core.messages import LLMRequest
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import Backoff, RetryPolicy
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.experiments.arrivals import TraceArrivals
from llmlab.experiments.workload import ClosedLoop, OpenLoop

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.calibration.visits import Recording

Workload = ClosedLoop | OpenLoop
_MOST_PROMPTS = 2000
_FOLLOWS = 0.9
"""The share of calls that must follow another's end for a load to be a closed loop."""
_AT_ONCE = 0.01
"""Within this share of a typical latency after another's end a call follows it."""
_CHARACTERS = 4
"""Of a token, as the simulated server counts them."""


class Traffic(NamedTuple):
    """A load and a policy."""

    workload: Workload
    policy: ClientPolicy


def traffic_of(recording: Recording, requests: tuple[LLMRequest, ...] | None) -> Traffic:
    """Return the load and the policy of a recording of one run, or of runs that differ by chance only.

    Args:
        recording: the events.
        requests: what is asked in place of prompts that nobody recorded; `None` leaves the default.

    Raises:
        SettingsError: there are no calls in it.
    """
    calls, attempts = recording.calls, recording.attempts
    if calls.empty:
        raise SettingsError("there are no calls to compare with; give (attempts, calls), a result, or a path")
    settings = _known(recording)
    workload = _part(settings, "workload", ClosedLoop | OpenLoop) or _workload_seen(calls)
    policy = _part(settings, "policy", ClientPolicy) or policy_seen(attempts)
    return Traffic(workload if requests is None else workload.replace(requests=requests), policy)


def _known(recording: Recording) -> dict[str, Any]:
    """Return the settings by path: the experiment's, with those that were swept put in."""
    row = recording.calls.iloc[0]
    swept = {path: _plain(row[path]) for path in recording.runs if "." in path and path in recording.calls.columns}
    return {**recording.settings, **swept}


def _plain(value: Any) -> Any:
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and math.isnan(value) else value


def _part(settings: Mapping[str, Any], name: str, kind: Any) -> Any:
    """Return a part of an experiment, built from its settings by path; `None` where they do not say it all."""
    nested: dict[str, Any] = {}
    for path, value in settings.items():
        first, *within = path.split(".")
        if first != name or not within or within[0] == "requests":
            continue
        _put(nested, within, value)
    if not nested or name in settings:  # it was swept as a whole, and frames have it as a text
        return None
    try:
        return TypeAdapter(kind).validate_python(nested)
    except ValueError:  # a trace that was too long to be kept, a policy of the user's own, a whole part that was swept
        return None


def _put(nested: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *above, name = path
    for step in above:
        nested = nested.setdefault(step, {})
    nested[name] = value


def _workload_seen(calls: pd.DataFrame) -> Workload:
    arrived = calls["arrived_at_s"].to_numpy(dtype=np.float64)
    ended = np.sort(calls["ended_at_s"].to_numpy(dtype=np.float64))
    arrived = np.sort(arrived)
    users = most_present(arrived, ended)
    later = arrived[users:]
    if later.size:
        before = np.searchsorted(ended, later, side="right") - 1
        gaps = later - np.where(before >= 0, ended[np.maximum(before, 0)], -np.inf)
        at_once = _AT_ONCE * float(np.median(calls["latency_s"]))
        if (gaps <= at_once).mean() >= _FOLLOWS:
            return ClosedLoop(users=users, calls=len(calls))
    return OpenLoop(arrivals=TraceArrivals(recorded=(arrived - arrived[0]).tolist()))


def policy_seen(attempts: pd.DataFrame) -> ClientPolicy:
    """Return the policy that attempts show: how many retries, after which waits, and how long an attempt may take.

    What no failure has shown is left at its default.
    """
    retries = int(attempts["attempt"].max()) - 1
    failed = ~attempts["answered"]
    given_up = failed & (attempts["reason"] == FailureReason.ATTEMPT_TIMEOUT) & (attempts["status_code"] == 0)
    changes: dict[str, Any] = {}
    if given_up.any():
        changes["attempt_timeout"] = float(attempts.loc[given_up, "latency_s"].median())
    if failed.any():
        waits = attempts[failed & (attempts["backoff_source"] == "backoff")]
        backoff = _backoff(waits) if len(waits) else Backoff()
        changes["retry"] = RetryPolicy(max_retries=retries, backoff=backoff)
    return ClientPolicy(**changes)


def _backoff(waits: pd.DataFrame) -> Backoff:
    means = waits.groupby("attempt")["backoff_s"].mean()
    base = float(means.iloc[0])
    factor = float(means.iloc[1] / base) if len(means) > 1 and base > 0 else 2.0
    jitter: Any = "none" if waits.groupby("attempt")["backoff_s"].std().fillna(0).max() < 0.01 * base else "full"
    scale = 2 if jitter == "full" else 1
    return Backoff(
        base=scale * base, factor=max(factor, 1.0), maximum=scale * max(float(means.max()), base), jitter=jitter
    )


def requests_like(call: NDArray[np.int64], tokens: NDArray[np.float64]) -> tuple[LLMRequest, ...] | None:
    """Return prompts that are as long as those recorded, in their order; `None` where nobody counted their tokens.

    Each call counts once, however often it was tried, so that a prompt that often fails is not made rarer by that.
    """
    known = tokens >= 1
    _, firsts = np.unique(call[known], return_index=True)
    counts = [int(count) for count in tokens[known][firsts]]
    if not counts:
        return None
    # In their order, because that matters: long prompts one after another fill a queue that they would pass one by one.
    counts = counts[:_MOST_PROMPTS]
    prompts = {count: LLMRequest(prompt="x" * (_CHARACTERS * count)) for count in set(counts)}
    return tuple(prompts[count] for count in counts)
