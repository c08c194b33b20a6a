"""Made-up sweep results whose true rates and latencies are known."""

from types import SimpleNamespace

import numpy as np
import pandas as pd


def calls_of(n, *, success=1.0, latency=1.0, attempts=1.0, random=None, **parameters) -> pd.DataFrame:
    """Return `n` independent calls: exponential latencies of this mean, and 1 + Poisson attempts."""
    random = np.random.default_rng(0) if random is None else random
    table = {
        "layer": pd.Categorical(["client"] * n),
        "call": np.arange(n),
        "parent_call": np.full(n, -1),
        "answered": random.random(n) < success,
        "latency_s": random.exponential(latency, n),
        "attempts": 1 + random.poisson(attempts - 1, n),
    }
    return pd.DataFrame({name: [value] * n for name, value in parameters.items()} | table)


def swept(*parts: pd.DataFrame):
    """Return what `recommend` takes: the calls of all parts, and the names of the swept columns."""
    own = {"layer", "call", "parent_call", "answered", "latency_s", "attempts", "replicate", "seed"}
    calls = pd.concat(parts, ignore_index=True).assign(layer=lambda frame: frame["layer"].astype("category"))
    return SimpleNamespace(calls=calls, parameters=[name for name in calls.columns if name not in own])
