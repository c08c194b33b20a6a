"""How the runs of a sweep are carried out: their order, what surrounds each, and what ends the sweep early.

Most of it is for real servers: these drift, warm up, cost money and go away.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmlab.core.settings import Settings


class Procedure(Settings):
    """The order of runs, warm-up and cool-down, and bounds.

        Sweep(base, grid, replicates=3, procedure=Procedure(warm_up=2, cool_down=5.0, max_seconds=3600))

    A sweep that a bound has ended says so in its result's `stopped`, and keeps what it has; with a store, running it
    again goes on from there.
    """

    order: Literal["grid", "shuffled"] | None = None
    """`"grid"`: point after point. `"shuffled"`: in rounds, in each of which every point has one replicate, in an order
    drawn anew, so that a server that grows slower looks like noise and not like an effect. `None` shuffles the runs of
    a real backend; to a simulated one the order makes no difference."""
    seed: int = 0
    """Fixes the shuffled order."""
    warm_up: int = Field(default=0, ge=0)
    """Calls before each run of a real backend, one after another, that count for nothing but the bounds."""
    cool_down: float = Field(default=0.0, ge=0)
    """Seconds of rest between two runs of a real backend."""
    max_calls: int | None = Field(default=None, ge=1)
    """No run is begun with which the sweep would make more calls, as far as its workload says how many."""
    max_seconds: float | None = Field(default=None, gt=0)
    """After so many real seconds the sweep ends; the run that is going on is not kept."""
    max_connection_failures: int | None = Field(default=20, ge=1)
    """After so many attempts in a row without a connection a real server counts as gone: the sweep ends, and the runs
    that saw nothing else at their end are not kept. `None` goes on, for faults that are meant to be so many."""
