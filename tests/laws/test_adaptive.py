"""A law of adaptive limits: no word of a server's can freeze them."""

from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    AdaptiveConcurrency,
    ClientPolicy,
    Experiment,
    Faults,
    MockBackend,
    OpenLoop,
    RetryPolicy,
    Window,
)


@settings(max_examples=30)
@given(st.sampled_from(["aimd", "gradient"]), st.integers(1, 8), st.floats(0, 1e7), st.booleans())
def test_no_retry_after_freezes_an_adaptive_limit(law, initial, retry_after, respected):
    """After an outage of refusals, calls are let in and answered at once, however long the server asked to wait."""
    outage = Faults(schedule=(Window(kind="rate_limit", start=5, end=10),), retry_after=retry_after)
    policy = ClientPolicy(
        adaptive_concurrency=AdaptiveConcurrency(law=law, initial=initial, maximum=8),
        retry=RetryPolicy(max_retries=1, respect_retry_after=respected),
        total_timeout=None,
    )
    workload = OpenLoop(rate=4, duration=30, arrivals="constant")
    calls = Experiment(backend=MockBackend(latency=0.1, faults=outage), policy=policy, workload=workload).run().calls
    after = calls[calls["arrived_at_s"] > 10.2]
    assert after["answered"].all()
    assert after["latency_s"].max() < 1.0
