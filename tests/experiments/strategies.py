"""Random experiments made of llmlab's own parts, for properties that hold for all of them."""

from hypothesis import strategies as st

from llmlab import (
    Answer,
    AttemptFailure,
    Backoff,
    Burst,
    BurstyArrivals,
    ClientPolicy,
    ClosedLoop,
    Condition,
    Constant,
    Empirical,
    Experiment,
    Exponential,
    FailureReason,
    Fallback,
    Faults,
    FinishReason,
    Layer,
    LinearRange,
    LLMRequest,
    Lognormal,
    LogRange,
    MockBackend,
    OllamaBackend,
    OpenAIBackend,
    OpenLoop,
    Outage,
    RateLimit,
    RateRamp,
    RateSteps,
    RetryPolicy,
    Samples,
    ServerModel,
    Sweep,
    TraceArrivals,
    Uniform,
    Usage,
    Values,
    Window,
    WithFaults,
    preset,
)

probabilities = st.floats(0, 0.04, allow_subnormal=False)
seconds = st.floats(0.001, 1e6)
texts = st.text(st.characters(codec="utf-8"), max_size=8)

distributions = st.one_of(
    st.builds(Constant, value=seconds),
    st.builds(Uniform, low=st.just(0.0), high=seconds),
    st.builds(Exponential, mean=seconds),
    st.builds(Lognormal, median=seconds, sigma=st.floats(0, 3)),
    st.builds(Empirical, values=st.lists(seconds, min_size=1, max_size=4)),
)
schedules = st.lists(
    st.sampled_from([Window(kind="overload", start=1, end=2), Burst(kind="timeout", mean_good=1, mean_bad=0.1)]),
    max_size=2,
)
faults = st.builds(
    Faults, timeout=probabilities, overload=probabilities, schedule=schedules, retry_after=st.none() | seconds
)
servers = st.builds(
    ServerModel,
    slots=st.integers(1, 9),
    queue=st.none() | st.integers(0, 9),
    service_time=st.none() | distributions,
    outages=st.sampled_from([(), [Outage(start=0.1, end=0.3)]]),
)
scripts = st.lists(
    st.sampled_from(
        [
            "overload",
            "answer",
            Answer("hello", usage=Usage(1, 2), finish_reason=FinishReason.LENGTH, time_to_first_token=0.1),
            AttemptFailure(FailureReason.RATE_LIMITED, "slow down", 429, retry_after=0.3, retryable=True),
        ]
    ),
    max_size=2,
)
mocks = st.builds(
    MockBackend,
    latency=distributions,
    faults=faults,
    server=st.none() | servers,
    seed=st.integers(),
    text=texts,
    script=scripts,
    name=st.sampled_from(["mock", "mine"]),
)
ollamas = st.builds(
    OllamaBackend,
    base_url=st.none() | st.just("http://127.0.0.1:11434"),
    model=st.none() | st.just("llama3.2"),
    options=st.dictionaries(texts, st.integers() | st.none() | st.lists(texts, max_size=2), max_size=2),
    keep_alive=st.none() | st.just("10m") | seconds,
)
openais = st.builds(
    OpenAIBackend,
    base_url=st.none() | st.just("http://127.0.0.1:8000/v1"),
    model=st.none() | st.just("qwen"),
    api_key_env=st.none() | st.just("MY_KEY"),
    options=st.dictionaries(texts, st.integers() | st.none() | st.lists(texts, max_size=2), max_size=2),
    max_tokens_field=st.sampled_from(["auto", "max_tokens"]),
    strict_end=st.booleans(),
)
backends = st.recursive(
    mocks | ollamas | openais,
    lambda behind: st.one_of(
        st.builds(WithFaults, behind, faults=faults, seed=st.integers()),
        st.builds(
            Layer, behind, st.just(preset("openai")), model=st.none() | st.just("m"), seed=st.none() | st.integers()
        ),
        st.builds(
            Fallback, st.lists(behind, min_size=1, max_size=2), on=st.sampled_from([{"overloaded"}, {"refused"}])
        ),
    ),
    max_leaves=2,
)

requests = st.lists(
    st.builds(
        LLMRequest,
        prompt=texts,
        stop=st.none() | st.just("end"),
        response_format=st.sampled_from([None, "json", {"type": "object", "properties": {"b": {}, "a": {}}}]),
        temperature=st.none() | st.floats(0, 2),
        metadata=st.dictionaries(texts, texts | st.booleans() | st.floats(-1, 1), max_size=2),
    ),
    min_size=1,
    max_size=2,
)
workloads = st.one_of(
    st.builds(ClosedLoop, calls=st.integers(1, 99), think_time=seconds, requests=requests),
    st.builds(OpenLoop, calls=st.integers(1, 99), rate=seconds, arrivals=st.sampled_from(["constant", "poisson"])),
    st.builds(
        OpenLoop,
        duration=seconds,
        rate=st.sampled_from([RateSteps(points=[(0, 0.1), (1, 2)]), RateRamp(points=[(0, 1), (0.3, 4)], scale=0.7)]),
        arrivals=st.builds(BurstyArrivals, cv=st.floats(0.1, 9)),
    ),
    st.builds(
        OpenLoop,
        arrivals=st.builds(TraceArrivals, recorded=st.lists(seconds, min_size=1, max_size=3).map(sorted)),
    ),
)

policies = st.one_of(
    st.builds(
        ClientPolicy,
        retry=st.builds(
            RetryPolicy,
            max_retries=st.integers(0, 9),
            backoff=st.builds(Backoff, base=seconds, jitter=st.sampled_from(["none", "full", "equal"])),
            retry_on=st.none() | st.frozensets(st.sampled_from(FailureReason), max_size=3),
        ),
        attempt_timeout=st.none() | seconds,
        rate_limit=st.none() | st.builds(RateLimit, requests=seconds),
    ),
    st.sampled_from([preset("openai"), preset("aws-standard"), preset("grpc")]),
)
experiments = st.builds(Experiment, backend=backends, policy=policies, workload=workloads, seed=st.integers())

axes_by_path = {
    "policy.retry.max_retries": st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True)
    | st.builds(lambda high, num: LinearRange(0, high, num, whole=True), st.integers(1, 9), st.integers(2, 4)),
    "policy.attempt_timeout": st.lists(st.none() | seconds, min_size=1, max_size=3, unique=True)
    | st.builds(lambda low, num: LogRange(low, 2.5, num), st.floats(0.01, 1), st.integers(2, 4)),
    "policy.max_queue": st.lists(st.none() | st.integers(0, 9), min_size=1, max_size=2, unique=True).map(
        lambda values: Values(values, only_if=Condition("policy.retry.max_retries", ">", 1))
    ),
    "policy.rate_limit": st.lists(
        st.none() | st.builds(RateLimit, requests=seconds), min_size=1, max_size=2, unique_by=repr
    ),
    "workload.requests": st.lists(requests, min_size=1, max_size=2, unique_by=repr),
}
sampled = st.builds(
    lambda method, low, seed: Samples(method, 2, {"policy.timeouts.connect": LinearRange(low, 3)}, seed=seed),
    st.sampled_from(["sobol", "latin_hypercube", "random"]),
    st.floats(0.1, 1),
    st.integers(0, 2**80),
)
sweeps = st.builds(
    lambda base, grid, zipped, samples, **rest: Sweep(base, grid or None, zipped=zipped, samples=samples, **rest),
    experiments,
    st.fixed_dictionaries({}, optional=axes_by_path),
    st.sampled_from([(), {"seed": [1, 2], "policy.total_timeout": [3.5, None]}]),
    st.none().map(lambda _: ()) | sampled,
    where=st.sampled_from([(), Condition("seed", "!=", 2**70)]),
    replicates=st.integers(1, 3),
)
"""Sweeps over experiments, of every form of axis."""
