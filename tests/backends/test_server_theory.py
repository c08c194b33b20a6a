"""The simulated server against queueing theory, with tolerances from the sampling error over independent replicates.

The machine is driven directly, so that runs are long enough for narrow tolerances; that the same comes out through a
whole client is held by `test_served_mock.py`.
"""

import math
from itertools import pairwise

import numpy as np
import pytest

from llmlab import ServerModel
from llmlab.backends.server_job import Job
from llmlab.backends.server_machine import ServerMachine

REPLICATES = 12
REQUESTS = 6000
WARM_UP = 500
SHARED = 10**6  # slots enough for everybody


def responses(model, arrivals, works):
    """The time in the system of each request, in order of arrival; NaN for the refused."""
    machine = ServerMachine(model)
    stays = np.full(len(arrivals), np.nan)

    def until(time):
        while machine.next_at <= time:
            at = machine.next_at
            machine.advance(at)
            for job in machine.ended:
                stays[job.waiter] = at - arrivals[job.waiter]
            machine.ended.clear()

    for number, (time, work) in enumerate(zip(arrivals, works, strict=True)):
        until(time)
        job = Job("m", 0.0, work)
        job.waiter = number
        machine.arrive(time, job)
    until(1e9)
    return stays


def replicates(model, rate, draw_works, measure):
    """A measure of each of several independent runs with Poisson arrivals."""
    values = []
    for seed in range(REPLICATES):
        chance = np.random.default_rng(seed)
        arrivals = np.cumsum(chance.exponential(1 / rate, REQUESTS)).tolist()
        works = draw_works(chance, REQUESTS).tolist()
        stays = responses(ServerModel(record_every=None, **model), arrivals, works)
        values.append(measure(stays[WARM_UP:], np.array(works[WARM_UP:])))
    return np.array(values)


def assert_means(values, expected):
    """Within 4 standard errors of the mean of the replicates (12 of them: a chance of about 0.2% to fail by chance)."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    assert abs(values.mean() - expected) < 4 * error, f"{values.mean():.4g} +- {error:.2g}, expected {expected:.4g}"
    assert error < 0.1 * expected, "too noisy to say anything"


def exponential(chance, count):
    return chance.exponential(1.0, count)


def mean_wait(stays, works):
    return (stays - works).mean()


def erlang_b(slots, load):
    """Erlang's loss formula by its recursion (Cooper, Introduction to Queueing Theory, 3.3)."""
    blocked = 1.0
    for number in range(1, slots + 1):
        blocked = load * blocked / (number + load * blocked)
    return blocked


def erlang_c(slots, rho):
    blocked = erlang_b(slots, slots * rho)
    return blocked / (1 - rho * (1 - blocked))


def test_the_formulas_give_the_published_values():
    for slots, rho, expected in ((1, 0.8, 0.8), (2, 0.8, 0.7111), (4, 0.8, 0.5964), (4, 0.9, 0.7878), (8, 0.8, 0.4576)):
        assert erlang_c(slots, rho) == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("slots", [1, 4])
def test_waits_of_an_m_m_c_queue(slots):
    rho = 0.7
    waits = replicates({"slots": slots}, slots * rho, exponential, mean_wait)
    assert_means(waits, erlang_c(slots, rho) / (slots * (1 - rho)))


def test_the_tail_of_an_m_m_c_wait():
    slots, rho, beyond = 2, 0.7, 2.0
    late = replicates({"slots": slots}, slots * rho, exponential, lambda stays, works: (stays - works > beyond).mean())
    assert_means(late, erlang_c(slots, rho) * math.exp(-slots * (1 - rho) * beyond))


@pytest.mark.parametrize(("slots", "queue", "load"), [(1, 4, 0.9), (3, 2, 3.0), (4, 0, 3.0)])
def test_blocking_of_an_m_m_c_k_queue(slots, queue, load):
    """The stationary law of a birth-death process: p_n ~ load^n / n! up to `slots`, then in ratio load / slots."""
    weights = [load**n / math.factorial(n) for n in range(slots + 1)]
    weights += [weights[-1] * (load / slots) ** extra for extra in range(1, queue + 1)]
    blocked = replicates({"slots": slots, "queue": queue}, load, exponential, lambda stays, _: np.isnan(stays).mean())
    assert_means(blocked, weights[-1] / sum(weights))
    if not queue:
        assert weights[-1] / sum(weights) == pytest.approx(erlang_b(slots, load))


SERVICE = {
    "constant": (lambda _, count: np.ones(count), 1.0),
    "uniform": (lambda chance, count: chance.uniform(0, 2, count), 4 / 3),
    "lognormal": (lambda chance, count: chance.lognormal(-0.125, 0.5, count), math.exp(0.25)),
}


@pytest.mark.parametrize("service", SERVICE)
def test_waits_of_an_m_g_1_queue(service):
    """Pollaczek and Khinchine: Wq = rate E[S^2] / (2 (1 - rho)); here E[S] = 1."""
    draw, second_moment = SERVICE[service]
    rho = 0.6
    assert_means(replicates({}, rho, draw, mean_wait), rho * second_moment / (2 * (1 - rho)))


def test_last_come_first_served_waits_as_long_on_average_and_more_unevenly():
    rho = 0.6
    first = replicates({}, rho, exponential, lambda stays, works: (stays - works).var())
    last = replicates({"discipline": "lifo"}, rho, exponential, lambda stays, works: (stays - works).var())
    assert_means(replicates({"discipline": "lifo"}, rho, exponential, mean_wait), rho / (1 - rho))
    assert last.mean() > 1.5 * first.mean()


@pytest.mark.parametrize("service", SERVICE)
def test_processor_sharing_answers_in_a_time_that_knows_the_mean_service_only(service):
    """M/G/1-PS: E[T] = E[S] / (1 - rho), and E[T | S = x] = x / (1 - rho) (Kleinrock, Queueing Systems II, 4.4)."""
    rho = 0.6
    model = {"slots": SHARED, "batch_slowdown": 1.0}
    assert_means(replicates(model, rho, SERVICE[service][0], lambda stays, _: stays.mean()), 1 / (1 - rho))
    if service == "uniform":
        for low, high in pairwise([0, 0.5, 1.0, 1.5, 2.0]):
            slowed = replicates(
                model,
                rho,
                SERVICE[service][0],
                lambda stays, works, low=low, high=high: _slowed(stays, works, low, high),
            )
            assert_means(slowed, 1 / (1 - rho))


def _slowed(stays, works, low, high):
    within = (works >= low) & (works < high)
    return stays[within].sum() / works[within].sum()


@pytest.mark.parametrize("slowdown", [0.1, 0.5])
def test_a_batch_is_a_birth_death_process_whose_rate_grows_less_and_less(slowdown):
    """Exponential work: with n served, ends come at rate n / (1 + slowdown (n - 1)); E[T] by Little's law."""
    rate, slots = 1.2, 30
    weights = [1.0]
    for n in range(1, 400):
        served = min(n, slots)
        weights.append(weights[-1] * rate * (1 + slowdown * (served - 1)) / served)
    mean_number = sum(n * weight for n, weight in enumerate(weights)) / sum(weights)
    model = {"slots": slots, "batch_slowdown": slowdown}
    assert_means(replicates(model, rate, exponential, lambda stays, _: stays.mean()), mean_number / rate)
