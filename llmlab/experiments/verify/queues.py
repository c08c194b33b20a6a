"""Queues in front of the simulated server: Erlang's, and those whose service is not exponential or not in turn.

Every run goes through the real client. A server whose first token comes as soon as it is served
(`first_token_share=0`) shows each wait without its service: it is the time to the first token. Mean service is 1 s
throughout. Waits of calls that follow each other are alike, so the first ones are left out, and what a run is worth is
told by independent runs only. Look next at `formulas.py`, the theory.
"""

from __future__ import annotations

import math
from heapq import heapify, heapreplace
from typing import TYPE_CHECKING, Any

import numpy as np

from llmlab.backends.distributions import Constant, Exponential, Lognormal
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.core.backend import Timeouts
from llmlab.core.policy import ClientPolicy
from llmlab.core.retry import RetryPolicy
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify import formulas
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.workload import OpenLoop

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from llmlab.backends.distributions import Distribution

ONCE = ClientPolicy(
    retry=RetryPolicy(max_retries=0),
    attempt_timeout=None,
    total_timeout=None,
    timeouts=Timeouts(connect=None, between_chunks=None),
)
"""A client without patience's bounds: nothing it does disturbs the queue."""
MARKOV = ((1, 0.8), (2, 0.8), (4, 0.8), (4, 0.9), (8, 0.8))
"""Slots and load per slot of the M/M/c queues."""
EXPONENTIAL = Exponential(mean=1.0)
_SIGMA = 0.5
_LOGNORMAL = Lognormal(median=math.exp(-(_SIGMA**2) / 2), sigma=_SIGMA)
_SERVICES: dict[str, tuple[Distribution, float]] = {
    "constant": (Constant(value=1.0), 1.0),
    "lognormal": (_LOGNORMAL, math.exp(_SIGMA**2)),
}
"""Service times of mean 1, each with its second moment."""
_FORGOTTEN, _MEASURED = 8.0, 25.0
"""Relaxation times: after the first the empty start is forgotten but for e^-8 of it; of the second a mean is made."""


def replicates(size: float) -> range:
    """Return the seeds of the independent runs at this size."""
    return range(max(8, round(30 * size)))


def queue(rate: float, *, calls: int, seed: int = 0, **server: Any) -> Experiment:
    """Return calls that arrive as a Poisson process at a server that does not record itself."""
    model = ServerModel(**{"service_time": EXPONENTIAL, "record_every": None, **server})
    backend = MockBackend(server=model, first_token_share=0.0)
    return Experiment(backend=backend, policy=ONCE, workload=OpenLoop(rate=rate, calls=calls), seed=seed)


def in_order(experiment: Experiment) -> pd.DataFrame:
    """Run it and return its calls in the order in which they arrived."""
    return experiment.run().calls.sort_values("call", ignore_index=True)


def _steady(size: float, rate: float, rho: float, **server: Any) -> list[pd.DataFrame]:
    """Return each replicate's calls, those of the warm-up left out."""
    relaxation = formulas.relaxation_calls(rho)
    warm_up = math.ceil(_FORGOTTEN * relaxation)
    calls = warm_up + max(800, round(size * max(2500.0, _MEASURED * relaxation)))
    return [in_order(queue(rate, calls=calls, seed=seed, **server))[warm_up:] for seed in replicates(size)]


def _waits(calls: pd.DataFrame) -> NDArray[np.float64]:
    return calls["time_to_first_token_s"].to_numpy()


def erlang(size: float) -> list[Check]:
    """The M/M/c queue: who waits, how long, how long one in a hundred waits; and each wait by its recursion."""
    checks = Checks("M/M/c", "Erlang 1917; Kiefer and Wolfowitz 1955")
    for slots, rho in MARKOV:
        theory = formulas.mmc_wait(slots, rho)
        runs = [_waits(run) for run in _steady(size, slots * rho, rho, slots=slots)]
        label = f"c={slots}, rho={rho:g}: "
        checks.on_average(f"{label}P(wait)", theory.probability, [(waits > 1e-9).mean() for waits in runs])
        checks.on_average(f"{label}mean wait (s)", theory.mean, [waits.mean() for waits in runs])
        checks.on_average(f"{label}p99 wait (s)", theory.quantile(0.99), jackknifed_percentile(runs, 0.99))
        calls = in_order(queue(slots * rho, calls=2000, slots=slots))
        checks.exactly(f"{label}worst wait by recursion (s)", 0.0, worst_difference(calls, slots))
    return checks.made


def jackknifed_percentile(runs: Sequence[NDArray[np.float64]], q: float) -> list[float]:
    """Return one value for each run, whose mean estimates the percentile of all runs together.

    A percentile of one run of correlated waits is biased. So that of all runs is compared with those of all but one:
    the pseudo-values of the delete-one-group jackknife (Shao and Wu, Annals of Statistics 1989).
    """
    whole, count = float(np.quantile(np.concatenate(runs), q)), len(runs)
    others = [np.quantile(np.concatenate([*runs[:left_out], *runs[left_out + 1 :]]), q) for left_out in range(count)]
    return [count * whole - (count - 1) * float(other) for other in others]


def worst_difference(calls: pd.DataFrame, slots: int) -> float:
    """Return by how much a wait differs at most from its recursion: each call takes the slot that is free first."""
    free = [0.0] * slots
    heapify(free)
    worst = 0.0
    columns = calls[["arrived_at_s", "time_to_first_token_s", "ended_at_s"]]
    for arrived, waited, ended in columns.itertuples(index=False, name=None):
        start = max(arrived, free[0])
        heapreplace(free, start + (ended - arrived - waited))
        worst = max(worst, abs(arrived + waited - start))
    return worst


def blocking(size: float) -> list[Check]:
    """The M/M/c/K queue: who finds every slot and every place in the queue taken is refused."""
    checks = Checks("M/M/c/K", "birth-death process; K=c: Erlang's loss formula")
    for slots, room, load in ((1, 5, 0.9), (3, 5, 3.0), (4, 4, 3.0)):
        served = [float(min(n, slots)) for n in range(1, room + 1)]
        refused = formulas.stationary([load] * room, served)[-1]
        # the relaxation of a bounded queue is shorter than that of an unbounded one at 0.7
        runs = _steady(size, load, 0.7, slots=slots, queue=room - slots)
        label = f"c={slots}, K={room}, load {load:g}: "
        checks.on_average(f"{label}refused", refused, [1.0 - run["answered"].mean() for run in runs])
    return checks.made


def general_service(size: float) -> list[Check]:
    """The M/G/1 queue: the mean wait knows the service time's mean and variance, and nothing else of it."""
    checks = Checks("M/G/1", "Pollaczek 1930, Khinchine 1932")
    for rho in (0.6, 0.8):
        for name, (service, second_moment) in _SERVICES.items():
            runs = _steady(size, rho, rho, service_time=service)
            waits = [_waits(run).mean() for run in runs]
            expected = formulas.mg1_mean_wait(rho, second_moment)
            checks.on_average(f"{name}, rho={rho:g}: mean wait (s)", expected, waits)
    return checks.made


def last_in_first_out(size: float) -> list[Check]:
    """Serving the last first leaves the mean wait as it is, and multiplies its second moment by 1 / (1 - rho)."""
    checks = Checks("LIFO queue", "Wishart 1960, Takacs 1963")
    rho = 0.5
    runs = [_waits(run) for run in _steady(size, rho, rho, discipline="lifo")]
    theory = formulas.mmc_wait(1, rho)
    in_turn = 2.0 * theory.probability / theory.rate**2
    checks.on_average(f"rho={rho:g}: mean wait (s)", theory.mean, [waits.mean() for waits in runs])
    second = [(waits**2).mean() for waits in runs]
    checks.on_average(f"rho={rho:g}: mean squared wait (s^2)", in_turn / (1.0 - rho), second)
    return checks.made


def processor_sharing(size: float) -> list[Check]:
    """All at once, each slowed by the others: the mean response knows of the service time its mean only."""
    checks = Checks("processor sharing", "Kleinrock, Queueing Systems II, 4.4; birth-death process")
    rho, everybody = 0.6, 10**6
    for name, (service, _) in _SERVICES.items():
        runs = _steady(size, rho, rho, slots=everybody, batch_slowdown=1.0, service_time=service)
        responses = [run["latency_s"].mean() for run in runs]
        checks.on_average(f"{name}, rho={rho:g}: mean response (s)", 1.0 / (1.0 - rho), responses)
    rate, slots, slowdown, enough = 1.2, 30, 0.5, 400
    served = [min(n, slots) for n in range(1, enough + 1)]
    shares = formulas.stationary([rate] * enough, [n / (1.0 + slowdown * (n - 1)) for n in served])
    number = sum(n * share for n, share in enumerate(shares))
    runs = _steady(size, rate, rho, slots=slots, batch_slowdown=slowdown)
    label = f"batch, slowdown {slowdown:g}: "
    checks.on_average(f"{label}mean response (s)", number / rate, [run["latency_s"].mean() for run in runs])
    return checks.made


def littles_law(size: float) -> list[Check]:
    """L = rate W in every run of any model: the server's view of its queue against the client's of its latencies."""
    checks = Checks("Little's law", "Little 1961")
    models: dict[str, dict[str, Any]] = {
        "first in, first out": {"slots": 2},
        "last in, first out": {"slots": 2, "discipline": "lifo"},
        "bounded queue": {"slots": 2, "queue": 3},
        "processor sharing": {"slots": 10**6, "batch_slowdown": 0.6},
        "outage": {"slots": 2, "outages": {"start": 100.0, "end": 120.0}},
    }
    for name, server in models.items():
        result = queue(1.6, calls=max(500, round(2000 * size)), record_every=0.0, **server).run()
        view, served = result.server, result.calls[result.calls["answered"]]
        span = served["ended_at_s"].max()
        present = (view["queue"] + view["busy"]).to_numpy()[:-1]
        number = (present * view["time_s"].diff().to_numpy()[1:]).sum() / span
        checks.exactly(f"{name}: mean number present", served["latency_s"].sum() / span, number)
    return checks.made


CASES: tuple[Case, ...] = (
    erlang,
    blocking,
    general_service,
    last_in_first_out,
    processor_sharing,
    littles_law,
)
