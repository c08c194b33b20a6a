"""`Calibration`: a simulated server fitted to a real one, with what is known of it, and how well it predicts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.groups import Groups
from llmlab.analysis.stats import percentile_interval
from llmlab.analysis.summaries import summary
from llmlab.calibration.traffic import Traffic, traffic_of
from llmlab.calibration.visits import recorded
from llmlab.core.display import grid, stacked
from llmlab.core.plain_data import plain_data
from llmlab.core.settings import SettingsError
from llmlab.experiments.documents import write_document
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.sweep import Sweep
from llmlab.experiments.workload import ClosedLoop, OpenLoop

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from llmlab.backends.mock import MockBackend
    from llmlab.calibration.visits import Events, Recording
    from llmlab.core.messages import LLMRequest
    from llmlab.core.policy import ClientPolicy
    from llmlab.experiments.sweep_result import SweepResult

METRICS = {
    "throughput_per_s": "calls/s",
    "latency_p50_s": "s",
    "latency_p95_s": "s",
    "failure_rate": "",
}
"""What is predicted, with its unit; the columns of `summary` of these names."""
_ENOUGH_CALLS = 2000
"""Predictions are made of at least so many calls, in as many runs as it takes."""
_MOST_RUNS = 40
_CHANCE = ("replicate", "seed", "run")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Calibration:
    """A `MockBackend` fitted to recorded events, and what is known of it. Printed, it is a report.

    Attributes:
        backend: the simulated server, to be used like any other.
        report: what was told, a parameter a row: `parameter`, `value`, its 95% interval (`low`, `high`), `unit`, `how`.
        unknown: what these events could not tell: `parameter`, what is `assumed` instead, `why`, what to `measure`.
        policy: the clients' policy while it was recorded, as far as it is known; predictions use it by default.
        requests: prompts as long as those recorded; `None` where nobody counted their tokens.
        attempts: how many attempts it was fitted to.
    """

    backend: MockBackend
    report: pd.DataFrame
    unknown: pd.DataFrame
    policy: ClientPolicy
    requests: tuple[LLMRequest, ...] | None
    attempts: int

    @property
    def advised(self) -> list[str]:
        """What to measure next, so that more can be told."""
        return [text for text in dict.fromkeys(self.unknown["measure"]) if text]

    def simulate(
        self, load: int | ClosedLoop | OpenLoop, policy: ClientPolicy | None = None, *, seed: int = 0
    ) -> SweepResult:
        """Run the simulated server under a load, and return the result of at least 2,000 calls.

        Args:
            load: a number of users who ask one call after another, or a workload. Its prompts are as long as those
                recorded, unless it brings its own.
            policy: the client's; `None` is the recorded clients'.
            seed: fixes all chance.

        Raises:
            SettingsError: the load is no such thing, or the number of users is less than 1.
        """
        if not isinstance(load, int | ClosedLoop | OpenLoop):
            raise SettingsError(f"a load is a number of users, a ClosedLoop or an OpenLoop; got {load!r}")
        workload = ClosedLoop(users=load, calls=max(_ENOUGH_CALLS, 50 * load)) if isinstance(load, int) else load
        if self.requests is not None and "requests" not in workload.model_fields_set:
            workload = workload.replace(requests=self.requests)
        experiment = Experiment(backend=self.backend, policy=policy or self.policy, workload=workload, seed=seed)
        replicates = min(-(-_ENOUGH_CALLS // (workload.calls or _ENOUGH_CALLS)), _MOST_RUNS)
        return Sweep(experiment, replicates=replicates).run(progress=False)

    def predict(
        self, *loads: int | ClosedLoop | OpenLoop, policy: ClientPolicy | None = None, seed: int = 0
    ) -> pd.DataFrame:
        """Return what to expect under loads: a row each, with `load` and the columns of `METRICS`.

        `calibration.predict(1, 4, 16)` is of so many users. The arguments are those of `simulate`.
        """
        rows = []
        for load in loads:
            headlines = _headlines(self.simulate(load, policy, seed=seed))
            rows.append({"load": load if isinstance(load, int) else repr(load), **headlines})
        return pd.DataFrame(rows, columns=["load", *METRICS])

    def validate(self, events: Events, policy: ClientPolicy | None = None, *, seed: int = 1) -> pd.DataFrame:
        """Return measured against predicted, for runs that were not fitted: the prediction error.

        Each setting among the runs is simulated with its own load. A row is a metric of a setting: the settings by
        which runs differ, `metric`, `unit`, `measured`, its 95% interval (`low` and `high`; NaN where there is none),
        `predicted`, and `error`, which is (predicted - measured) / measured; of a failure rate it is the difference.

        Args:
            events: what was recorded, in the forms that `calibrate` takes; they must have calls.
            policy: the clients'; by default what the experiment's settings or the events say.
            seed: fixes all chance of the predictions.

        Raises:
            SettingsError: the events have no calls.
        """
        recording = recorded(events)
        if recording.calls.empty:
            raise SettingsError("there are no calls to compare with; give (attempts, calls), a result, or a path")
        by = [name for name in recording.runs if name not in _CHANCE]
        calls, attempts = Groups(recording.calls, by), Groups(recording.attempts, by)
        frames = []
        for place in range(len(calls)):
            part = recording._replace(
                calls=recording.calls[calls.codes == place], attempts=recording.attempts[attempts.codes == place]
            )
            traffic = self._traffic(part, policy)
            predicted = _headlines(self.simulate(traffic.workload, traffic.policy, seed=seed))
            rows = _compared(part.calls, predicted)
            for number, name in enumerate(by):
                rows.insert(number, name, calls.keys[name].iloc[place])
            frames.append(rows)
        return pd.concat(frames, ignore_index=True)

    def _traffic(self, recording: Recording, policy: ClientPolicy | None) -> Traffic:
        traffic = traffic_of(recording, self.requests)
        if traffic.workload.calls is not None:  # replicates of one setting are made anew, not one long run
            runs = len(Groups(recording.calls, recording.runs))
            if len(recording.calls) != traffic.workload.calls * runs and isinstance(traffic.workload, ClosedLoop):
                traffic = traffic._replace(workload=traffic.workload.replace(calls=-(-len(recording.calls) // runs)))
        return traffic if policy is None else traffic._replace(policy=policy)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the backend to a .toml or .json file: a sweep's, whose base has this backend (`Sweep.load(path)`).

        Raises:
            SettingsError: the name has another ending.
            OSError: the file cannot be written.
        """
        backend = plain_data(self.backend, "backend", complete=False)
        return write_document(str(path), {"base": {"backend": {"kind": self.backend.kind, **backend}}})

    def __str__(self) -> str:
        """Say it in lines."""
        lines = [f"Fitted to {self.attempts:,} attempts:"]
        lines += [f"  {row.parameter} = {_value(row)}  ({row.how})" for row in self.report.itertuples()]
        if len(self.unknown):
            lines += ["Could not be told from these events:"]
            lines += [f"  {row.parameter}: {row.why}; assumed: {row.assumed}" for row in self.unknown.itertuples()]
        if self.advised:
            lines += ["To tell more:", *(f"  - {text}" for text in self.advised)]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        def table(title: str, frame: pd.DataFrame) -> str:
            return grid(title, [str(name) for name in frame], frame.to_numpy(dtype=object).tolist())

        fitted = table(f"Fitted to {self.attempts:,} attempts", self.report)
        unknown = [table("Could not be told from these events", self.unknown)] if len(self.unknown) else []
        return stacked(fitted, *unknown)


def _value(row: Any) -> str:
    value = f"{row.value:.4g}" if isinstance(row.value, float) else str(row.value)
    unit = f" {row.unit}" if row.unit else ""
    return f"{value}{unit}" if np.isnan(row.low) else f"{value}{unit} [{row.low:.4g}, {row.high:.4g}]"


def _headlines(result: SweepResult) -> dict[str, float]:
    row = result.summary(by=[]).iloc[0]
    return {name: float(row[name]) for name in METRICS}


def _compared(calls: pd.DataFrame, predicted: dict[str, float]) -> pd.DataFrame:
    measured = summary(calls).iloc[0]
    latencies = calls["latency_s"].to_numpy(dtype=np.float64)
    ends = {
        name: percentile_interval(latencies, q)[1:3] for name, q in (("latency_p50_s", 0.5), ("latency_p95_s", 0.95))
    }
    ends["failure_rate"] = (float(measured["failure_rate_low"]), float(measured["failure_rate_high"]))
    rows = []
    for name, unit in METRICS.items():
        value, (low, high) = float(measured[name]), ends.get(name, (np.nan, np.nan))
        error = predicted[name] - value
        if name != "failure_rate":
            error = error / value if value else np.nan
        rows.append((name, unit, value, low, high, predicted[name], error))
    return pd.DataFrame(rows, columns=["metric", "unit", "measured", "low", "high", "predicted", "error"])
