import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import (
    AsyncClient,
    Backoff,
    ClientPolicy,
    EventLog,
    Experiment,
    JsonLinesObserver,
    LLMRequest,
    MockBackend,
    OpenLoop,
    RetryPolicy,
    SettingsError,
    counterfactual,
)
from llmlab.analysis import attempts_frame, summary
from llmlab.virtual_time import run

EVENTS = ["call", "attempt", "started_at_s", "ended_at_s", "reason", "output_tokens"]


def policy(retries=1, **bounds):
    backoff = Backoff(base=0.5, jitter="none")
    return ClientPolicy(
        **{"retry": RetryPolicy(max_retries=retries, backoff=backoff), "attempt_timeout": 3.0, **bounds}
    )


def yesterday(policy, seed=0, calls=120, **faults):
    faults = faults or {"overload_probability": 0.3, "timeout_probability": 0.1}
    workload = OpenLoop(rate=5, calls=calls)
    return Experiment(backend=MockBackend(**faults), policy=policy, workload=workload, seed=seed)


def lasting(frame):
    """The events without the times, which are the same to rounding only where all begins at another time."""
    return frame[["call", "attempt", "reason", "output_tokens"]].sort_values(["call", "attempt"], ignore_index=True)


def test_under_the_same_policy_everything_is_known_and_as_it_was():
    experiment = yesterday(policy())
    result = counterfactual(experiment.record().log, experiment.policy)
    assert result.known == 1.0
    assert result.moved == 0.0
    assert result.unknown == {}
    table = result.table()
    for name in ("best", "resampled", "worst"):
        assert table[name].to_numpy() == pytest.approx(table["yesterday"].to_numpy(), rel=1e-9)


def test_fewer_retries_are_known_and_are_what_would_have_been():
    then = yesterday(policy(retries=2))
    truth = then.replace(policy=policy(retries=0)).run()
    result = counterfactual(then.record().log, policy(retries=0))
    assert result.known == 1.0
    assert lasting(result.worst.attempts).equals(lasting(truth.attempts))
    assert result.table()["worst"]["success_rate"] == truth.summary()["success_rate"][0]


def test_a_shorter_timeout_is_known_except_where_it_asks_for_more_retries():
    then = yesterday(policy(retries=0), timeout_probability=0.2)
    truth = then.replace(policy=policy(retries=0, attempt_timeout=1.0)).run()
    result = counterfactual(then.record().log, policy(retries=0, attempt_timeout=1.0))
    assert result.known == 1.0
    assert lasting(result.best.attempts).equals(lasting(truth.attempts))


def test_a_retry_that_was_never_made_is_marked_with_its_call():
    then = yesterday(policy(retries=0), calls=50, overload_probability=0.5)
    log = then.record().log
    result = counterfactual(log, policy(retries=1))
    failed = {call.call for call in log.calls if call.reason is not None}
    assert len(failed) > 10
    assert result.unknown == {"not_recorded": len(failed)}
    assert set(result.worst.calls.query("not known")["call"]) == failed
    marked = result.worst.attempts.dropna(subset="unknown")
    assert set(zip(marked["call"], marked["attempt"], strict=True)) == {(call, 2) for call in failed}
    assert result.known == pytest.approx(1 - len(failed) / 50)


def test_an_attempt_that_was_cut_short_is_marked_where_the_other_policy_waits_longer():
    then = yesterday(policy(retries=0, attempt_timeout=1.0), timeout_probability=0.1)
    result = counterfactual(then.record().log, policy(retries=0, attempt_timeout=5.0))
    assert set(result.unknown) == {"cut_short"}
    assert result.table()["best"]["success_rate"] == 1.0
    assert result.table()["worst"]["success_rate"] == result.table()["yesterday"]["success_rate"]


@given(
    st.integers(0, 1000),
    st.tuples(st.integers(0, 2), st.sampled_from([1.0, 3.0, None])),
    st.tuples(st.integers(0, 3), st.sampled_from([1.0, 2.0, 10.0])),
)
@settings(max_examples=15)
def test_the_truth_lies_between_the_best_and_the_worst(seed, old, new):
    (then_retries, then_timeout), (retries, timeout) = old, new
    then = yesterday(policy(then_retries, attempt_timeout=then_timeout or 60.0), seed, calls=60)
    other = policy(retries, attempt_timeout=timeout)
    truth = then.replace(policy=other).run().summary().iloc[0]
    table = counterfactual(then.record().log, other).table()
    for metric, better in (("success_rate", 1), ("latency_p95_s", -1), ("attempts_per_call", -1)):
        best, worst = table["best"][metric] * better, table["worst"][metric] * better
        assert worst - 1e-9 <= truth[metric] * better <= best + 1e-9, metric


def test_answers_that_are_asked_for_at_another_time_are_counted():
    then = yesterday(policy(), overload_probability=0.3)
    later = policy().replace(retry=RetryPolicy(max_retries=1, backoff=Backoff(base=4, jitter="none")))
    result = counterfactual(then.record().log, later)
    second = sum(attempt.attempt == 2 for attempt in then.record().log.attempts)
    assert result.known == 1.0
    assert result.moved == pytest.approx(second / len(result.worst.attempts))


def test_a_recording_that_neither_begins_at_0_nor_with_call_0_is_taken_from_its_first_arrival(tmp_path):
    log = yesterday(policy()).record().log
    with JsonLinesObserver(tmp_path / "events.jsonl") as file:
        for event in (*log.attempts, *log.calls):
            if event.call >= 20:
                times = {name: getattr(event, name) + 1e5 for name in event._fields if name.endswith("_at_s")}
                (file.on_call if hasattr(event, "fate") else file.on_attempt)(event._replace(**times))
    result = counterfactual(tmp_path / "events.jsonl", policy())
    assert result.known == 1.0
    assert result.yesterday.calls["arrived_at_s"][0] == 0.0
    assert list(result.worst.calls["call"]) == list(range(100))
    table = result.table()
    assert table["worst"].to_numpy() == pytest.approx(table["yesterday"].to_numpy(), rel=1e-6)


def test_a_refused_request_stays_refused_and_a_text_that_fits_no_format_stays_so():
    log = EventLog()

    async def main():
        client = AsyncClient(MockBackend(script=["malformed"]), policy(), observers=[log])
        await client.generate("")
        await client.generate(LLMRequest(prompt="Hello", response_format="json"))

    run(main())
    result = counterfactual(log, policy(retries=0))
    assert result.known == 1.0
    assert list(result.worst.calls["reason"]) == ["empty_prompt", "malformed_output"]


def test_the_table_is_made_of_the_summaries_of_its_frames():
    then = yesterday(policy())
    result = counterfactual(then.record().log, policy(retries=3))
    for name in ("yesterday", "best", "resampled", "worst"):
        run = getattr(result, name)
        row = summary(run.calls, run.attempts).iloc[0]
        assert [row[metric] for metric in result.table().index] == list(result.table()[name])


def test_it_says_what_no_log_can_tell():
    result = counterfactual(yesterday(policy()).record().log, policy(retries=3))
    for text in (str(result), result._repr_html_()):
        assert "what it would have made of another load (its queue, its limits) no log can tell" in text
        assert "not_recorded" in text
        assert "yesterday" in text


def test_attempts_alone_are_refused():
    log = yesterday(policy()).record().log
    with pytest.raises(SettingsError, match="hold no calls, only attempts"):
        counterfactual(attempts_frame(log), policy())
