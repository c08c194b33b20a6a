"""`python -m tests.benchmarks.calibration`: parameters recovered from 2,000 calls, and the error of predictions.

Each server is measured with 500 calls under each of 1, 4, 8 and 16 users, fitted, and predicted at 1, 2, 4, 8 and 16
users; it is measured again there, with 4,000 calls each. All of it under virtual time, with several seeds.
"""

from __future__ import annotations

import argparse
import time

import pandas as pd

from llmlab.backends.setting_paths import setting_at
from llmlab.calibration import calibrate
from tests.calibration.servers import PATIENT, SERVERS, measured

FITTED, HELD_OUT = (1, 4, 8, 16), (1, 2, 4, 8, 16)


def main() -> None:
    """Measure, fit, predict, print."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.calibration", description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="default: %(default)s")
    parser.add_argument("--server", choices=SERVERS, action="append", help="only this one; may be given again")
    arguments = parser.parse_args()
    recovered, predicted, seconds = [], [], []
    for name in arguments.server or SERVERS:
        known = SERVERS[name]
        for seed in range(arguments.seeds):
            events = measured(known.backend, FITTED, 2000 // len(FITTED), seed=seed)
            began = time.perf_counter()
            fitted = calibrate(events)
            seconds.append(time.perf_counter() - began)
            found = {path: setting_at(fitted.backend, path) for path in known.told}
            recovered += [(name, path, seed, known.truth(path), value) for path, value in found.items()]
            again = measured(known.backend, HELD_OUT, 4000, seed=100 + seed)
            table = fitted.validate(again, policy=PATIENT)
            predicted.append(table.assign(server=name, seed=seed))
    print_recovered(pd.DataFrame(recovered, columns=["server", "parameter", "seed", "true", "found"]))
    print_predicted(pd.concat(predicted))
    print(f"\nfit of 2,000 calls: {min(seconds):.1f} to {max(seconds):.1f} s")


def print_recovered(table: pd.DataFrame) -> None:
    """Print, for each parameter, what was found over the seeds, and the largest error."""
    error = (table["found"] / table["true"] - 1).where(table["true"] != 0, table["found"])
    groups = table.assign(error=error, size=error.abs()).groupby(["server", "parameter"], sort=False)
    shown = groups.agg(
        true=("true", "first"), found=("found", "mean"), bias=("error", "mean"), worst=("size", "max")
    ).reset_index()
    shown["within 5%"] = [f"{int((part['size'] <= 0.05).sum())} of {len(part)}" for _, part in groups]
    print("Recovered from 2,000 calls (errors as shares of the true value):")
    print(shown.to_string(index=False, float_format=lambda value: f"{value:.4g}"))


def print_predicted(table: pd.DataFrame) -> None:
    """Print, for each server and metric, the largest error over the seeds at each number of users."""
    size = table.assign(size=table["error"].abs())
    shown = size.pivot_table(index=["server", "metric"], columns="workload.users", values="size", aggfunc="max")
    print("\nLargest error of predictions over the seeds, by users (of failure_rate: the difference):")
    print(shown.round(3).to_string())
    inside = table[table["metric"].isin(["latency_p50_s", "latency_p95_s"])]
    within = (inside["error"].abs() <= 0.1).groupby(inside["server"]).mean()
    print("\nShare of p50 and p95 predicted within 10%:")
    print(within.round(3).to_string())


if __name__ == "__main__":
    main()
