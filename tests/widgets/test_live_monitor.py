"""`LiveMonitor` without a front end: what it counts, shows and leaves behind."""

import asyncio
import gc
import html
import time
import weakref
import xml.etree.ElementTree as ET

import pytest

from llmlab import (
    Answer,
    AsyncMockLLM,
    AttemptFailure,
    Client,
    ClientPolicy,
    FailureReason,
    Layer,
    MockBackend,
    MockLLM,
    RetryPolicy,
)
from llmlab.core.events import AttemptEvent, CallEvent
from llmlab.virtual_time import run
from llmlab.widgets import LiveMonitor, live_monitor, tally

SECRET = "my-secret-prompt"
R = FailureReason
ONCE = ClientPolicy(retry=RetryPolicy(max_retries=0))


class ByCall:
    """Answers or fails as is written for a call's number, answers after 2 s and failures after 1 s."""

    simulated = True

    def __init__(self, *outcomes):
        self.outcomes = outcomes

    async def attempt(self, request, *, timeouts, key):
        outcome = self.outcomes[key.call]
        await asyncio.sleep(2.0 if isinstance(outcome, Answer) else 1.0)
        return outcome


def watchers(client):
    return tuple(getattr(client, "_client", client)._emitter)


def test_it_counts_calls_attempts_failures_by_reason_and_latencies():
    server = ByCall(
        Answer("yes"), AttemptFailure(R.OVERLOADED, "busy"), Answer("no"), AttemptFailure(R.SERVER_ERROR, "broken")
    )
    with Client(server, ONCE) as llm, LiveMonitor(llm) as monitor:
        for _ in server.outcomes:
            llm.generate("Hi")
        shot = monitor.snapshot()
    assert (shot.calls, shot.answered, shot.attempts, shot.in_flight) == (4, 2, 4, 0)
    assert shot.failed_attempts == shot.failed_calls == {"overloaded": 1, "server_error": 1}
    assert shot.latency_s == {0.5: 1.0, 0.95: 2.0, 0.99: 2.0}
    assert shot.window_s == 4.0, "from the first end, at 2 s, to the last, at 6 s, of virtual time"
    assert sum(bucket.failed for bucket in shot.buckets) == sum(bucket.answered for bucket in shot.buckets) == 2


def test_calls_in_flight_of_an_async_client_are_seen_while_they_run():
    llm = AsyncMockLLM(latency=5.0)

    async def main():
        with LiveMonitor(llm) as monitor:
            calls = [asyncio.create_task(llm.generate("Hi")) for _ in range(7)]
            await asyncio.sleep(1.0)
            during = monitor.snapshot()
            await asyncio.gather(*calls)
            return during, monitor.snapshot()

    during, after = run(main())
    assert (during.in_flight, during.calls) == (7, 0)
    assert (after.in_flight, after.calls, after.attempts) == (0, 7, 7)


def test_layers_inside_are_counted_apart():
    retrying = ClientPolicy(retry=RetryPolicy(max_retries=1))
    backend = Layer(MockBackend(script=["overload", "answer"]), retrying, name="sdk")
    with Client(backend) as client, LiveMonitor(client) as monitor:
        assert client.generate("Hi").ok
        shot = monitor.snapshot()
    assert (shot.calls, shot.attempts, shot.failed_attempts) == (1, 1, {})
    assert shot.layers == {"sdk": (1, 2, 1)}


def test_the_page_shows_the_numbers_and_reasons_in_well_formed_html_without_a_prompt():
    with MockLLM(overload_probability=0.3, seed=3) as llm, LiveMonitor(llm) as monitor:
        llm.generate_many([SECRET] * 100)
        monitor.refresh()
        page, shot = monitor.page, monitor.snapshot()
        said = repr(monitor)
    ET.fromstring(page)
    words = html.unescape(page)
    assert ">100<" in page
    assert "overloaded" in words
    assert f">{shot.failed_attempts['overloaded']}<" in page
    assert "<svg" in page
    assert "aria-label" in page
    assert SECRET not in page + said
    assert monitor.error == ""
    assert max(map(len, said.splitlines())) <= 120


def test_a_name_from_outside_is_escaped():
    evil = "<script>alert(1)</script>"
    with Client(Layer(MockBackend(), name=evil)) as client, LiveMonitor(client) as monitor:
        client.generate("Hi")
        monitor.refresh()
        page = monitor.page
    assert "<script>" not in page
    assert html.escape(evil) in page


def test_a_monitor_that_a_cell_ends_in_shows_the_calls_that_were_made_before(monkeypatch):
    monkeypatch.setattr(live_monitor, "REDRAW_EVERY", 0.01)
    with MockLLM() as llm:
        monitor = LiveMonitor(llm)
        llm.generate_many(["Hi"] * 7)
        assert "7 calls ended" in monitor._repr_mimebundle_()["text/plain"]  # which counts them, before they are drawn
        give_up_at = time.monotonic() + 20
        while ">7</dd>" not in monitor.page:
            assert time.monotonic() < give_up_at, monitor.page
            time.sleep(0.01)


def test_a_closed_monitor_is_off_the_client_and_keeps_what_it_shows():
    with MockLLM() as llm:
        monitor = LiveMonitor(llm)
        llm.generate("Hi")
        monitor.close()
        monitor.close()
        assert watchers(llm) == ()
        llm.generate("Hi")
        assert monitor.snapshot().calls == 1
    assert "Closed" in monitor.page
    assert "closed" in repr(monitor)


def test_a_new_monitor_of_a_client_takes_the_place_of_the_one_before():
    with MockLLM() as llm:
        first = LiveMonitor(llm)
        with LiveMonitor(llm):
            assert len(watchers(llm)) == 1
        assert "Closed" in first.page


def test_a_monitor_keeps_no_client_alive():
    llm = MockLLM()
    monitor, gone = LiveMonitor(llm), weakref.ref(llm)
    llm.generate("Hi")
    llm.close()
    del llm
    gc.collect()
    assert gone() is None
    assert monitor.snapshot().calls == 1
    monitor.close()


def test_an_error_of_the_drawing_is_shown_and_the_client_goes_on(monkeypatch):
    with MockLLM() as llm, LiveMonitor(llm) as monitor:
        monkeypatch.setattr(live_monitor, "body", lambda *_: 1 / 0)
        monitor.refresh()
        assert "ZeroDivisionError" in monitor.error
        assert llm.generate("Hi").ok


@pytest.mark.parametrize(
    ("client", "window", "error", "message"),
    [
        (MockBackend(), 60.0, TypeError, "watches a client.*got a MockBackend"),
        (MockLLM(), 0, ValueError, "window must be above 0 seconds, got 0"),
    ],
)
def test_what_cannot_be_watched_is_refused(client, window, error, message):
    with pytest.raises(error, match=message):
        LiveMonitor(client, window=window)


# ---- the counting itself

ATTEMPT = AttemptEvent("client", 0, 1, "mock", False, 0, 0, 0, 0, 1.0, 0, None, 0, 0, 0, 0, None, 0, None)
CALL = CallEvent("client", 0, -1, 0, 0.0, 0.0, 1.0, "answered", None, None, 1, 0, 0, 1, 0, 0, 0, 0, None)


def test_memory_stays_bounded_where_nobody_looks():
    counts = tally.Tally("client", window=1e9)
    for number in range(3 * tally.RECENT):
        counts.on_attempt(ATTEMPT._replace(ended_at_s=number))
        counts.on_call(CALL._replace(ended_at_s=number))
        assert len(counts._new_calls) < tally.PENDING
        assert len(counts._new_attempts) <= tally.PENDING
    shot = counts.snapshot(0)
    assert (shot.calls, shot.attempts, shot.recent_calls) == (3 * tally.RECENT, 3 * tally.RECENT, tally.RECENT)


def test_only_what_ended_within_the_window_is_recent():
    counts = tally.Tally("client", window=10.0)
    for ended in range(100):
        counts.on_call(CALL._replace(ended_at_s=float(ended)))
    shot = counts.snapshot(0)
    assert (shot.calls, shot.recent_calls, shot.window_s) == (100, 11, 10.0)


def test_a_clock_that_begins_anew_begins_a_new_window_and_totals_go_on():
    counts = tally.Tally("client", window=10.0)
    for ended in (1000.0, 1001.0, 3.0, 4.0):
        counts.on_attempt(ATTEMPT._replace(ended_at_s=ended))
        counts.on_call(CALL._replace(ended_at_s=ended, arrived_at_s=ended - 1))
        counts.count()
    shot = counts.snapshot(0)
    assert (shot.calls, shot.recent_calls, shot.window_s) == (4, 2, 1.0)
    assert sum(bucket.answered for bucket in shot.buckets) == 2


@pytest.mark.parametrize(("q", "value"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100), (0.001, 1)])
def test_a_percentile_is_the_nearest_rank(q, value):
    assert tally.percentile(range(1, 101), q) == value
