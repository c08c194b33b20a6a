"""Laws of common random numbers: what befalls an attempt is fixed by its key, whatever the policy does."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import AsyncClient, ClientPolicy, EventLog, Faults, MockBackend, RetryPolicy, WithFaults
from llmlab.backends.faults import FaultKind, drawn
from llmlab.core.chance import Purpose, uniform
from llmlab.virtual_time import run


@settings(max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(0, 3), st.booleans())
def test_the_weather_of_an_attempt_does_not_depend_on_the_policy(seed, concurrency, max_retries, wrapped):
    """Common random numbers: (call, attempt) fixes fault and latency, however the calls are scheduled."""

    def weather(policy):
        log = EventLog()
        backend = MockBackend(faults=Faults(overload=0.3, timeout=0.1), seed=seed)
        if wrapped:
            backend = WithFaults(backend, overload_probability=0.2, seed=seed)

        async def main():
            await AsyncClient(backend, policy, observers=[log]).generate_many(["Hello"] * 8, concurrency=8)

        run(main())
        return {
            (attempt.call, attempt.attempt): (attempt.reason, round(attempt.ended_at_s - attempt.started_at_s, 9))
            for attempt in log.attempts
        }

    plain = weather(ClientPolicy(retry=RetryPolicy(max_retries=0), total_timeout=None))
    other = weather(
        ClientPolicy(retry=RetryPolicy(max_retries=max_retries), max_concurrency=concurrency, total_timeout=None)
    )
    assert {key: other[key] for key in plain} == plain
    assert max_retries or other == plain


@given(st.sampled_from(FaultKind), st.floats(0, 1), st.floats(0, 1), st.integers(0, 1000))
def test_raising_one_probability_takes_no_fault_away(kind, one, other, seed):
    low, high = sorted((one, other))

    def faulty(probability):
        thresholds = Faults(**{kind: probability}).thresholds()
        return {call for call in range(50) if drawn(thresholds, uniform(seed, call, 1, Purpose.SERVER))}

    assert faulty(low) <= faulty(high)
