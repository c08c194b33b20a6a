"""The queueing server behind a client: phases, departures, tokens, limits, and what Ollama was recorded to do."""

import asyncio
import itertools
import math

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    Answer,
    AsyncClient,
    AttemptFailure,
    Backoff,
    Client,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    Exponential,
    FailureReason,
    Faults,
    FinishReason,
    LLMRequest,
    MockBackend,
    MockLLM,
    OpenLoop,
    Outage,
    RetryPolicy,
    ServerModel,
    Timeouts,
    WithFaults,
)
from llmlab.analysis import dtype_of, server_frame
from llmlab.backends.server_view import SERVER_COLUMNS
from llmlab.virtual_time import run

R = FailureReason
ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=None, total_timeout=None)
HUNDRED_CHARACTERS = "0123456789" * 10  # 25 tokens


def backend(latency=1.0, faults=None, **server):
    return MockBackend(
        latency=latency,
        refusal_latency=0.0,
        text=HUNDRED_CHARACTERS,
        faults=faults or Faults(),
        server=ServerModel(**server),
    )


def at_once(count, server, policy=ONCE, requests=None):
    """Make many calls at once and return their results, in order, and the server's own view."""

    async def main():
        client = AsyncClient(server, policy, seed=0)
        results = await client.generate_many(requests or ["Hello"] * count, concurrency=count)
        return results, server_frame(server.session().view)

    return run(main())


def latencies(results):
    return [round(result.latency, 9) for result in results]


# ---- slots and queue


def test_calls_wait_for_a_slot_in_order_of_arrival():
    results, view = at_once(5, backend(slots=2))
    assert latencies(results) == [1, 1, 2, 2, 3]
    assert (view["queue"].max(), view["busy"].max(), view["done_s"].iloc[-1]) == (3, 2, 5)


def test_a_refused_call_gets_503_after_the_refusal_latency():
    server = backend(queue=1).replace(refusal_latency=0.25)
    results, view = at_once(4, server)
    assert [getattr(result, "reason", None) for result in results] == [None, None, R.OVERLOADED, R.OVERLOADED]
    assert (results[3].status_code, results[3].latency) == (503, 0.25)
    assert view["refused"].iloc[-1] == 2


def test_without_a_queue_to_wait_in_the_draws_are_those_of_the_plain_mock():
    workload = ClosedLoop(users=5, calls=200)
    plain = MockBackend(faults=Faults(overload=0.1, empty=0.1), seed=5)
    queueing = plain.replace(server=ServerModel(slots=5))
    one, other = (Experiment(backend=each, workload=workload).run().attempts for each in (plain, queueing))
    pd.testing.assert_frame_equal(one, other, rtol=1e-12)


def test_the_same_seed_gives_the_same_run():
    base = Experiment(
        backend=MockBackend(server=ServerModel.profile("vllm", slots=3), faults=Faults(cut=0.1, stall=0.1)),
        workload=OpenLoop(calls=300, rate=1.0),
    )
    one, other = base.run(), base.run()
    assert one.attempts.equals(other.attempts)
    assert one.server.equals(other.server)


def test_a_closed_loop_has_the_throughput_of_its_slots():
    """Theory: throughput min(N, c) / S, response max(S, N S / c)."""
    experiment = Experiment(
        backend=backend(latency=2.0, slots=4), policy=ONCE, workload=ClosedLoop(users=64, calls=64 * 20)
    )
    calls = experiment.run().calls
    settled = calls[calls["started_at_s"] >= 64]
    assert set(settled["latency_s"].round(9)) == {32.0}
    assert len(calls) / calls["ended_at_s"].max() == pytest.approx(2.0)


def test_an_m_m_1_queue_waits_as_long_through_a_whole_client():
    waits = []
    for seed in range(8):
        workload = OpenLoop(calls=1500, rate=0.6)
        experiment = Experiment(backend=backend(latency=Exponential(mean=1)), policy=ONCE, workload=workload, seed=seed)
        waits.append(experiment.run().calls["latency_s"].mean() - 1)
    mean = sum(waits) / 8
    error = math.sqrt(sum((wait - mean) ** 2 for wait in waits) / 7 / 8)
    assert abs(mean - 0.6 / 0.4) < 4 * error < 0.8


# ---- departures


@pytest.mark.parametrize(("on_disconnect", "wasted", "idle_from"), [("stop", 0.5, 1.5), ("work_on", 2.0, 3.0)])
def test_what_a_client_gives_up_is_dropped_or_served_for_nobody(on_disconnect, wasted, idle_from):
    server = backend(on_disconnect=on_disconnect)

    async def main():
        results = await AsyncClient(server, ONCE.replace(attempt_timeout=1.5)).generate_many(["Hello"] * 3)
        await asyncio.sleep(10)
        return results, server_frame(server.session().view)

    results, view = run(main())
    assert [result.ok for result in results] == [True, False, False]
    assert view.iloc[-1][["time_s", "queue", "busy", "done_s", "wasted_s"]].tolist() == [idle_from, 0, 0, 1, wasted]


def test_a_cancelled_call_frees_its_slot_and_its_place_in_the_queue():
    server = backend()

    async def main():
        client = AsyncClient(server, ONCE)
        first = asyncio.create_task(client.generate("a"))
        second = asyncio.create_task(client.generate("b"))
        third = asyncio.create_task(client.generate("c"))
        await asyncio.sleep(0.5)
        first.cancel()
        second.cancel()
        await third
        await asyncio.gather(first, second, return_exceptions=True)
        return asyncio.get_running_loop().time()

    assert run(main()) == 1.5


@pytest.mark.parametrize(
    ("rate", "retries", "on_disconnect", "recovers"),
    [
        (100, 1, "work_on", True),
        (155, 1, "work_on", False),
        (280, 1, "stop", True),
    ],
)
def test_a_retry_storm_outlasts_its_outage_where_retries_overload_the_server(rate, retries, on_disconnect, recovers):
    """Bronson et al., HotOS 2021, at a tenth of the pace: vulnerable where rate (1 + retries) > 30."""
    server = backend(latency=1 / 30, on_disconnect=on_disconnect, outages=Outage(start=20, end=30), record_every=0.1)
    policy = ClientPolicy(
        retry=RetryPolicy(max_retries=retries, backoff=Backoff(base=0, jitter="none")),
        attempt_timeout=1.0,
        total_timeout=None,
    )
    workload = OpenLoop(calls=rate * 15, rate=rate / 10)
    calls = Experiment(backend=server, policy=policy, workload=workload).run().calls
    late = calls[calls["arrived_at_s"] > 120]
    assert late["answered"].mean() == pytest.approx(1.0 if recovers else 0.0, abs=0.05)
    assert late["attempts"].mean() == pytest.approx(1.0 if recovers else 2.0, abs=0.05)


quarters = st.integers(1, 20).map(lambda n: n / 4)


@settings(max_examples=40)
@given(
    st.integers(0, 100),
    quarters,
    st.builds(
        ServerModel,
        slots=st.integers(1, 3),
        queue=st.none() | st.integers(0, 4),
        discipline=st.sampled_from(["fifo", "lifo"]),
        batch_slowdown=st.sampled_from([0.0, 0.5, 1.0]),
        outages=st.sampled_from([(), (Outage(start=2, end=4),)]),
    ),
    st.builds(Timeouts, first_byte=st.none() | quarters, between_chunks=st.sampled_from([None, 0.0625, 0.25, 1.0])),
)
def test_littles_law_holds_in_every_run(seed, attempt_timeout, model, timeouts):
    """The integral of those at the server is the sum of the times of the attempts that it took in."""
    policy = ClientPolicy(
        retry=RetryPolicy(max_retries=1, backoff=Backoff(base=0.25, jitter="none")),
        attempt_timeout=attempt_timeout,
        timeouts=timeouts,
    )
    server = MockBackend(latency=Exponential(mean=1), refusal_latency=0, server=model)
    result = Experiment(backend=server, policy=policy, workload=OpenLoop(calls=40, rate=2.0), seed=seed).run()
    view, rows = result.server, result.attempts
    stays = (rows["ended_at_s"] - rows["started_at_s"])[rows["reason"] != "overloaded"].sum()
    spans = view["time_s"].diff().shift(-1)
    assert ((view["queue"] + view["busy"]) * spans).sum() == pytest.approx(stays)
    assert view["refused"].iloc[-1] == (rows["reason"] == "overloaded").sum()
    assert (view["queue"].iloc[-1], view["busy"].iloc[-1]) == (0, 0)


# ---- tokens and phases


def test_an_answers_time_comes_from_its_tokens():
    request = LLMRequest(prompt="x" * 400, max_tokens=11)  # 100 tokens
    server = backend(prefill_rate=50, decode_rate=10)
    result = at_once(1, server, requests=[request])[0][0]
    assert (result.time_to_first_token, result.latency) == pytest.approx((2.1, 3.1))
    assert (result.usage, result.finish_reason) == ((100, 11), FinishReason.LENGTH)
    assert result.text == HUNDRED_CHARACTERS[:44], "cut where the tokens end"


def test_an_answers_length_is_drawn_by_its_key():
    server = backend(decode_rate=100, output_tokens=Exponential(mean=50), slots=100)
    first, _ = at_once(40, server)
    again, _ = at_once(40, server.replace(server=server.server.replace(slots=1)))
    lengths = [result.usage.output_tokens for result in first]
    assert lengths == [result.usage.output_tokens for result in again]
    assert 20 < sum(lengths) / 40 < 100
    assert latencies(first) == [length / 100 for length in lengths]


def test_a_cut_answer_no_longer_fits_its_schema():
    request = LLMRequest(prompt="a", max_tokens=1, response_format={"type": "object", "required": ["a", "b"]})
    assert at_once(1, backend(), requests=[request])[0][0].reason is R.TRUNCATED_OUTPUT


def test_a_batch_slows_first_tokens_and_the_others_alike():
    results, _ = at_once(4, backend(latency=2.0, slots=4, batch_slowdown=0.5))
    assert {(result.time_to_first_token, result.latency) for result in results} == {(1.25, 5.0)}


def test_no_first_byte_in_time_is_an_attempt_timeout_that_names_the_phase():
    policy = ONCE.replace(timeouts=Timeouts(first_byte=1.5))
    results, view = at_once(3, backend(latency=2.0), policy)
    assert latencies(results) == [2, 1.5, 1.5], "the queue counts, the answer's rest does not"
    assert results[1].reason is R.ATTEMPT_TIMEOUT
    assert "timeouts.first_byte" in results[1].message
    assert view["wasted_s"].iloc[-1] == 0
    assert latencies(at_once(2, backend(latency=2.0), ONCE.replace(timeouts=Timeouts(first_byte=2.5)))[0]) == [2, 4]


@pytest.mark.parametrize("server", [None, ServerModel(), ServerModel(batch_slowdown=0.5, slots=3)])
def test_tokens_too_far_apart_are_an_attempt_timeout_that_names_the_phase(server):
    # 25 tokens in 100 s: the first after 25 s, the others 3.125 s apart.
    slow = MockBackend(latency=100.0, text=HUNDRED_CHARACTERS, server=server)
    for patience, latency in ((3.1, 28.1), (3.2, 100.0)):
        result = at_once(1, slow, ONCE.replace(timeouts=Timeouts(between_chunks=patience)))[0][0]
        assert result.latency == pytest.approx(latency)
        assert result.ok or "timeouts.between_chunks" in result.message


@pytest.mark.parametrize(("patience", "ok", "latency"), [(10.5, True, 14.0), (9.5, False, 11.5)])
def test_an_outage_between_two_tokens_is_a_pause_that_patience_outlasts_or_not(patience, ok, latency):
    # Tokens at 1, 1.125, ... 4; the outage begins right after the one at 2.
    server = backend(latency=4.0, outages=Outage(start=2.0625, end=12.0625))
    result = at_once(1, server, ONCE.replace(timeouts=Timeouts(between_chunks=patience)))[0][0]
    assert (result.ok, result.latency) == (ok, latency)


def test_a_stalled_answer_holds_no_slot_but_a_broken_one_wastes_its_work():
    faulty = backend(latency=4.0, faults=Faults(stall=1.0))
    results, view = at_once(2, faulty, ONCE.replace(timeouts=Timeouts(between_chunks=5)))
    assert latencies(results) == [6.0, 10.0]
    assert view["wasted_s"].iloc[-1] == 8
    _, view = at_once(2, backend(latency=4.0, faults=Faults(cut=1.0)))
    assert (view["wasted_s"].iloc[-1], view["time_s"].iloc[-1]) == (5, 5)


def test_a_script_is_followed_and_its_answers_queue():
    server = backend().replace(script=["overload", Answer("mine"), AttemptFailure(R.REFUSED, "no"), "answer"])

    async def main():
        log = EventLog()
        policy = ONCE.replace(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=0, jitter="none")))
        results = await AsyncClient(server, policy, observers=[log]).generate_many(["a", "b"])
        return results, log

    results, log = run(main())
    assert [(result.text, result.latency) for result in results] == [("mine", 1), ("mine", 2)]
    assert [attempt.reason for attempt in log.attempts][:2] == [R.OVERLOADED, R.OVERLOADED]


def test_refusals_and_silence_never_reach_the_queue():
    for kind in ("overload", "connection_error", "timeout", "connect_stall"):
        results, view = at_once(3, backend(faults=Faults(**{kind: 1.0})), ONCE.replace(attempt_timeout=9.0))
        assert not any(result.ok for result in results)
        assert len(view) == 1


# ---- rate limits


def test_a_rate_limit_says_when_to_come_back_and_keeps_its_word():
    server = backend(latency=0.0, slots=10, requests_per_minute=6, limit_burst=1)
    refused = at_once(3, server)[0][2]
    assert (refused.reason, refused.status_code, refused.retry_after) == (R.RATE_LIMITED, 429, 10)
    patient = ClientPolicy(retry=RetryPolicy(max_retries=9), attempt_timeout=None, total_timeout=None)
    results, view = at_once(4, server, patient)
    assert sorted(result.latency for result in results) == [0, 10, 20, 30]
    assert view["refused"].iloc[-1] == 3 + 2 + 1


def test_a_token_limit_counts_what_was_used():
    server = backend(latency=1.0, tokens_per_minute=60, slots=10)
    log = EventLog()
    client = Client(server, ONCE, observers=[log])
    request = LLMRequest(prompt="x" * 40, max_tokens=50)  # 60 tokens are asked for, 35 used
    assert client.generate(request).ok
    assert client.generate(request).retry_after == pytest.approx(60 - (60 - 35) - 1)


# ---- loading, and what Ollama was recorded to do (tests/data/ollama)


def test_twelve_requests_at_once_to_a_cold_ollama_with_a_queue_of_one():
    """busy_503_cold: two are answered, one after the other; ten are refused at once."""
    server = MockBackend(server=ServerModel.profile("ollama", load_queue=1), refusal_latency=0.001)
    results, _ = at_once(12, server)
    assert [result.ok for result in results] == [True] * 2 + [False] * 10
    assert {(result.reason, result.status_code, result.latency) for result in results[2:]} == {
        (R.OVERLOADED, 503, 0.001)
    }
    assert 0.76 < results[0].latency < results[1].latency


def test_twelve_requests_at_once_to_a_warm_ollama_with_a_queue_of_one():
    """busy_warm_no_503: OLLAMA_MAX_QUEUE is not consulted; all wait in line for the one slot."""
    server = MockBackend(server=ServerModel.profile("ollama", load_queue=1))

    async def main():
        client = AsyncClient(server, ONCE)
        await client.generate("warm up")
        return await client.generate_many(["Hello"] * 12, concurrency=12)

    results = run(main())
    assert all(result.ok for result in results)
    gaps = {round(later.latency - earlier.latency, 6) for earlier, later in itertools.pairwise(results)}
    assert gaps == {round(results[0].latency, 6)}, "one after another"


def test_six_requests_for_another_model_while_ollama_is_generating():
    """busy_503_other_model: two wait until the model in use is done and unloaded; four are refused."""
    server = MockBackend(server=ServerModel.profile("ollama", load_queue=1))

    async def main():
        client = AsyncClient(server, ONCE)
        await client.generate(LLMRequest(prompt="warm up", model="A"))
        busy = asyncio.create_task(client.generate(LLMRequest(prompt="a", model="A")))
        await asyncio.sleep(0)
        others = await client.generate_many([LLMRequest(prompt="b", model="B")] * 6, concurrency=6)
        return await busy, others

    busy, others = run(main())
    assert [result.ok for result in others] == [True] * 2 + [False] * 4
    assert others[0].latency > busy.latency + 0.76


def test_a_disconnect_frees_ollamas_slot_at_once():
    """client_disconnect_stream_fin, client_timeout_while_waiting: the next request is served promptly."""
    server = MockBackend(server=ServerModel.profile("ollama"), text=HUNDRED_CHARACTERS)

    async def main():
        client = AsyncClient(server, ONCE)
        await client.generate("warm up")
        alone = await client.generate("Hello")
        gone = [asyncio.create_task(client.generate("Hello")) for _ in range(3)]
        await asyncio.sleep(alone.latency / 2)
        for task in gone:
            task.cancel()
        after = await client.generate("Hello")
        await asyncio.gather(*gone, return_exceptions=True)
        return alone.latency, after.latency

    alone, after = run(main())
    assert after == pytest.approx(alone)


def test_an_ollama_that_was_idle_for_five_minutes_is_cold_again():
    server = MockBackend(server=ServerModel.profile("ollama"))

    async def main():
        client = AsyncClient(server, ONCE)
        found = []
        for idle in (0, 299, 301):
            await asyncio.sleep(idle)
            found.append((await client.generate("Hello")).latency)
        return found

    cold, warm, cold_again = run(main())
    assert cold == pytest.approx(cold_again) == pytest.approx(warm + 0.76)


# ---- the view, and other ways in


def test_the_view_comes_with_an_experiment_and_through_wrappers():
    workload = ClosedLoop(users=3, calls=6)
    for server in (backend(), WithFaults(backend())):
        view = Experiment(backend=server, policy=ONCE, workload=workload).run().server
        assert list(view.columns) == [
            "replicate", "seed", "time_s", "queue", "busy", "done_s", "wasted_s", "refused",
        ]  # fmt: skip
        assert [view[column.name].dtype for column in SERVER_COLUMNS] == list(map(dtype_of, SERVER_COLUMNS))
        assert view["time_s"].is_monotonic_increasing
        assert view.iloc[-1][["time_s", "done_s"]].tolist() == [6, 6]


def test_there_is_no_view_where_there_is_no_server_or_none_is_wanted():
    workload = ClosedLoop(users=3, calls=6)
    for server in (MockBackend(), backend(record_every=None)):
        result = Experiment(backend=server, policy=ONCE, workload=workload).run()
        assert len(result.server) == 0
        assert "queue" in result.server.columns


def test_a_view_can_be_thinned_out():
    workload = OpenLoop(calls=500, rate=20)
    every, thin = (
        Experiment(backend=backend(latency=0.01, record_every=each), policy=ONCE, workload=workload).run().server
        for each in (0.0, 1.0)
    )
    assert len(every) > 500
    assert len(thin) < 30
    assert thin["time_s"].diff().iloc[:-1].dropna().min() >= 1
    assert thin.iloc[-1].equals(every.iloc[-1]), "the end is always kept"


def test_it_works_in_real_time_too():
    llm = MockLLM(latency=0.005, server=ServerModel(slots=2), real_time=True)
    results = llm.generate_many(["Hello"] * 6)
    assert [result.ok for result in results] == [True] * 6
    assert max(result.latency for result in results) >= 0.015


@settings(max_examples=60)
@given(st.floats(0.1, 1000.0), st.floats(0.01, 10.0), st.sampled_from([None, 30.0]))
def test_it_never_waits_for_an_instant_that_a_rounding_puts_before_its_own_clock(first_used, latency, patience):
    """Timers are set in the loop's time, the machine runs in its own: (origin + t) - origin may be less than t."""

    async def main():
        await asyncio.sleep(first_used)
        timeouts = Timeouts(between_chunks=patience)
        client = AsyncClient(backend(latency, slots=1), ONCE.replace(timeouts=timeouts), seed=0)
        return await asyncio.gather(*(client.generate("Hello") for _ in range(3)))

    results = run(main(), livelock_after=1000)
    assert [result.latency for result in results] == pytest.approx([latency, 2 * latency, 3 * latency])
