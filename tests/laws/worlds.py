"""Random worlds for the laws: a client's policy, a server's weather, a load, and callers who come, leave and cancel."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from llmlab import (
    AdaptiveConcurrency,
    AdaptiveThrottle,
    Answer,
    AttemptFailure,
    Backoff,
    Burst,
    CircuitBreaker,
    ClientPolicy,
    ClosedLoop,
    Experiment,
    Exponential,
    FailureReason,
    Fallback,
    Faults,
    Hedging,
    Layer,
    LLMRequest,
    MockBackend,
    OpenLoop,
    Outage,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    ServerModel,
    Timeouts,
    Window,
    WithFaults,
    as_code,
)
from llmlab.backends.faults import FaultKind

TEXT = "0123456789abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True)
class Visit:
    """Somebody who comes to the client once: for an answer, for several, or to read a stream.

    Attributes:
        at: when they come, in seconds.
        wants: what they ask for.
        cancelled: after how many seconds, and then how many turns of the loop, they are cancelled; `None`: never.
        pace: seconds that a reader takes before each piece.
        leaves_after: how many times a reader asks for a piece before they close the stream; `None`: to the end.
    """

    at: float
    wants: str = "answer"
    cancelled: tuple[float, int] | None = None
    pace: float = 0.0
    leaves_after: int | None = None


@dataclass(frozen=True)
class World:
    """All that decides a run.

    Attributes:
        experiment: backend, policy and workload, which one client makes.
        visits: what a second client does at the same time, which shares the first one's limits.
        closed_at: when both clients are closed under way; `None`: at the end.
        foreseen: whether the server may be asked for the outcome of an attempt beforehand, where it can say.
    """

    experiment: Experiment
    visits: tuple[Visit, ...] = ()
    closed_at: float | None = None
    foreseen: bool = True

    def __repr__(self) -> str:  # as it stands in a snippet
        visits = "".join(f"\n        {visit!r}," for visit in self.visits)
        inner = f"\n    visits=({visits}\n    )," if self.visits else ""
        return f"World(\n    experiment,{inner}\n    closed_at={self.closed_at!r},\n    foreseen={self.foreseen!r},\n)"


def snippet(world: World) -> str:
    """Return a program that runs the world again and checks all laws; it runs in the repository's folder."""
    return (
        f"{as_code(world.experiment)}\n"
        "from tests.laws.laws import check\n"
        "from tests.laws.recording import recorded\n"
        "from tests.laws.worlds import Visit, World\n\n"
        f"world = {world!r}\n"
        "check(recorded(world))\n"
    )


# Multiples of a quarter second: sums are exact, and many things happen at the same instant, where the bugs are.
quarters = st.integers(1, 40).map(lambda n: n / 4)
maybe = st.none() | quarters


def sometimes(part):
    """Leave a part of a policy out more often than not, so that most worlds are simple and some have everything."""
    return st.none() | st.none() | part


# ---- policies

BACKOFFS = st.builds(
    Backoff,
    base=st.sampled_from([0.0, 0.25, 1.0]),
    maximum=st.sampled_from([0.5, 8.0]),
    jitter=st.sampled_from(["full", "equal", "decorrelated", "none", "proportional", "symmetric", "additive"]),
)
RETRIES = st.builds(
    RetryPolicy,
    max_retries=st.integers(0, 3),
    backoff=BACKOFFS,
    respect_retry_after=st.booleans(),
    max_retry_after=maybe,
    beyond_max_retry_after=st.sampled_from(["backoff", "give_up"]),
    retry_after_jitter=st.sampled_from([0.0, 0.25]),
    stop_after=sometimes(quarters),
    retry_on=sometimes(st.frozensets(st.sampled_from(FailureReason), min_size=1, max_size=6)),
)
RATE_LIMITS = st.builds(
    RateLimit, requests=st.integers(1, 20), per=st.sampled_from([1.0, 10.0]), burst=st.integers(1, 3)
) | st.builds(RateLimit, requests=st.none() | st.integers(5, 20), tokens=st.integers(50, 400), per=st.just(10.0))
tokens = st.sampled_from([0.0, 0.25, 1.0])
BUDGETS = st.builds(
    RetryBudget,
    capacity=st.integers(1, 3),
    per_call=tokens,
    per_success=tokens,
    retry_cost=st.sampled_from([0.5, 1.0]),
    timeout_cost=st.none() | st.just(2.0),
    refund=st.booleans(),
    failure_cost=st.sampled_from([0, 0.5]),
    reserve=sometimes(st.just(0.5)),
)
BREAKERS = st.builds(
    CircuitBreaker, minimum_attempts=st.integers(1, 3), window=quarters, open_for=quarters, probes=st.integers(1, 2)
)
THROTTLES = st.builds(AdaptiveThrottle, k=st.sampled_from([1.0, 2.0]), window=quarters)
ADAPTIVE = st.builds(
    AdaptiveConcurrency,
    law=st.sampled_from(["aimd", "gradient"]),
    initial=st.integers(2, 4),
    minimum=st.integers(1, 2),
    maximum=st.integers(4, 6),
)
HEDGING = st.builds(Hedging, delay=st.just(0.0) | quarters, max_hedges=st.integers(1, 2)) | st.builds(
    Hedging, percentile=st.just(0.5), at_least=st.integers(1, 3)
)
POLICIES = st.builds(
    ClientPolicy,
    retry=RETRIES,
    attempt_timeout=quarters,
    total_timeout=maybe,
    timeouts=st.builds(Timeouts, connect=maybe, first_byte=maybe, between_chunks=maybe),
    max_concurrency=st.none() | st.integers(1, 3),
    max_queue=sometimes(st.integers(0, 2)),
    max_queue_wait=sometimes(st.just(0.0) | quarters),
    rate_limit=sometimes(RATE_LIMITS),
    budget=sometimes(BUDGETS),
    breaker=sometimes(BREAKERS),
    throttle=sometimes(THROTTLES),
    adaptive_concurrency=sometimes(ADAPTIVE),
    hedging=sometimes(HEDGING),
)

# ---- servers

SCHEDULES = st.lists(
    st.sampled_from(
        [
            Window(kind="overload", start=2, end=6),
            Window(kind="timeout", start=1, end=4, probability=0.5),
            Burst(kind="server_error", mean_good=3, mean_bad=2),
        ]
    ),
    max_size=2,
)
# Two in three are what servers in trouble do most, and what a Retry-After comes with.
KINDS = (
    st.sampled_from([str(kind) for kind in FaultKind])
    | st.sampled_from(["rate_limit", "overload"])
    | st.just("timeout")
)
FAULTS = st.builds(
    lambda kinds, schedule, retry_after: Faults(**kinds, schedule=schedule, retry_after=retry_after),
    st.dictionaries(KINDS, st.sampled_from([0.1, 0.3]), max_size=3),
    SCHEDULES,
    maybe,
)
MODELS = st.builds(
    ServerModel,
    slots=st.integers(1, 2),
    queue=st.none() | st.integers(0, 2),
    discipline=st.sampled_from(["fifo", "lifo"]),
    on_disconnect=st.sampled_from(["stop", "stop", "work_on"]),
    batch_slowdown=st.sampled_from([0.0, 0.5]),
    requests_per_minute=sometimes(st.just(30)),
    limit_burst=st.just(4.0),
    load_time=sometimes(st.just(2.0)),
    outages=st.sampled_from([(), (), (Outage(start=1.0, end=3.0),)]),
)
SCRIPTS = st.lists(
    st.sampled_from(
        [
            "overload",
            "answer",
            "cut",
            "timeout",
            Answer(TEXT),
            AttemptFailure(FailureReason.RATE_LIMITED, "slow down", 429, retry_after=0.5),
        ]
    ),
    max_size=2,
)
SERVERS = st.builds(
    MockBackend,
    text=st.just(TEXT),
    latency=quarters | st.builds(Exponential, mean=quarters),
    refusal_latency=st.sampled_from([0.0, 0.25]),
    faults=FAULTS,
    server=st.none() | MODELS,
    script=st.just(()) | SCRIPTS,
)
# Where text is handed out and then breaks, again and again, under a client that would love to retry.
BREAKING = st.builds(
    MockBackend,
    text=st.just(TEXT),
    latency=quarters,
    faults=st.just(Faults(cut=0.4, error_in_stream=0.2, stall=0.2)),
)
FAULTY = SERVERS | SERVERS | BREAKING | st.builds(WithFaults, SERVERS, faults=FAULTS)
LAYERS = st.builds(Layer, FAULTY, POLICIES)
BACKENDS = (
    FAULTY
    | FAULTY
    | LAYERS
    | st.builds(Fallback, st.lists(FAULTY | LAYERS, min_size=1, max_size=2))
    | st.builds(Layer, st.builds(Fallback, st.lists(FAULTY, min_size=1, max_size=2)), POLICIES)
)

# ---- load

REQUESTS = st.sampled_from(
    [
        (LLMRequest(prompt="Hello"),),
        (LLMRequest(prompt="Hello", max_tokens=40), LLMRequest(prompt="Hello " * 20)),
        (LLMRequest(prompt="Hello"), LLMRequest(prompt=" "), LLMRequest(prompt="JSON, please", response_format="json")),
    ]
)
WORKLOADS = st.builds(
    ClosedLoop,
    calls=st.integers(1, 8),
    users=st.integers(1, 4),
    think_time=st.sampled_from([0.0, 0.5]),
    requests=REQUESTS,
) | st.builds(
    OpenLoop,
    calls=st.integers(1, 8),
    rate=st.sampled_from([0.5, 4.0]),
    arrivals=st.sampled_from(["constant", "poisson"]),
    requests=REQUESTS,
)
CANCELLED = st.none() | st.none() | st.tuples(st.just(0.0) | quarters, st.integers(0, 3))
VISITS = st.builds(
    Visit, at=quarters, wants=st.sampled_from(["answer", "answer", "batch"]), cancelled=CANCELLED
) | st.builds(
    Visit,
    at=quarters,
    wants=st.just("stream"),
    cancelled=CANCELLED,
    pace=st.sampled_from([0.0, 0.0, 0.25, 9.0]),
    leaves_after=st.none() | st.integers(1, 6),
)


def worlds(backends, closed_at):
    return st.builds(
        World,
        st.builds(Experiment, backend=backends, policy=POLICIES, workload=WORKLOADS, seed=st.integers(0, 1000)),
        visits=st.lists(VISITS, max_size=6).map(tuple),
        closed_at=closed_at,
        foreseen=st.booleans(),
    )


WORLDS = worlds(BACKENDS, st.none() | st.none() | quarters)
