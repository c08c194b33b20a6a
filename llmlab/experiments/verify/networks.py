"""Closed loops: users who wait for their answer, think, and ask again, so that the server sets its own load."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.backends.distributions import Constant, Exponential
from llmlab.backends.mock import MockBackend
from llmlab.backends.server_model import ServerModel
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.verify import formulas
from llmlab.experiments.verify.case import Case, Check, Checks
from llmlab.experiments.verify.queues import ONCE, in_order, replicates
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    from llmlab.backends.distributions import Distribution


def closed_loop(size: float) -> list[Check]:
    """N users on c slots: throughput min(N, c) / S, response max(S, N S / c)."""
    del size
    checks = Checks("closed loop", "bottleneck law (Denning and Buzen 1978)")
    slots, service = 4, 2.0
    for users in (3, 64):
        calls = in_order(_network(users, slots, Constant(value=service), calls=20 * users))
        ends = calls["ended_at_s"].sort_values().to_numpy()
        rounds = ends[users:]  # the first answers come at the pace of an empty server
        throughput = len(rounds) / (rounds[-1] - ends[users - 1])
        checks.exactly(f"N={users}: throughput (1/s)", min(users, slots) / service, throughput)
        response = max(service, users * service / slots)
        checks.exactly(f"N={users}: response (s)", response, calls["latency_s"][users:].mean())
    return checks.made


def machine_repair(size: float) -> list[Check]:
    """N users who think for Z between calls to c slots with exponential service: a closed network of product form.

    It does not matter that all think equally long: of a station where nobody waits only the mean counts (Baskett,
    Chandy, Muntz and Palacios, J. ACM 1975).
    """
    checks = Checks("machine repair", "closed network of product form (BCMP 1975)")
    service = 1.0
    for users, slots, think in ((20, 2, 10.0), (8, 1, 5.0)):
        shares = formulas.stationary(
            [(users - n) / think for n in range(users)], [min(n, slots) / service for n in range(1, users + 1)]
        )
        throughput = sum(share * min(n, slots) / service for n, share in enumerate(shares))
        warm_up, measured = 500, max(1000, round(4000 * size))
        network = _network(users, slots, Exponential(mean=service), think=think, calls=warm_up + measured + users)
        runs = [in_order(network.replace(seed=seed))[warm_up : warm_up + measured] for seed in replicates(size)]
        label = f"N={users}, c={slots}, Z={think:g} s: "
        arrivals = [(measured - 1) / (run["arrived_at_s"].iloc[-1] - run["arrived_at_s"].iloc[0]) for run in runs]
        checks.on_average(f"{label}throughput (1/s)", throughput, arrivals)
        responses = [run["latency_s"].mean() for run in runs]
        checks.on_average(f"{label}response (s)", users / throughput - think, responses)
    return checks.made


def _network(users: int, slots: int, service: Distribution, *, calls: int, think: float = 0.0) -> Experiment:
    backend = MockBackend(server=ServerModel(slots=slots, service_time=service, record_every=None))
    workload = ClosedLoop(users=users, calls=calls, think_time=think)
    return Experiment(backend=backend, policy=ONCE, workload=workload)


CASES: tuple[Case, ...] = (closed_loop, machine_repair)
