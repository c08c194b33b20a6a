import asyncio
import sys
import time

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode, get_current_span

from llmlab import (
    AsyncClient,
    AsyncMockLLM,
    Backoff,
    ClientPolicy,
    EventLog,
    Fallback,
    Hedging,
    JsonLinesObserver,
    Layer,
    LLMRequest,
    MockBackend,
    MockLLM,
    OpenTelemetryObserver,
    RetryPolicy,
    SettingsError,
)
from llmlab.observers import read_json_lines
from llmlab.virtual_time import run

STEADY = {"backoff": Backoff(base=1, jitter="none"), "latency": 2.0}
SECOND = 1_000_000_000


class Collector:
    """OpenTelemetry's SDK with everything kept in memory."""

    def __init__(self):
        self.exporter, self.reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers, self.meters = TracerProvider(), MeterProvider([self.reader])
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))

    def observer(self, **settings):
        return OpenTelemetryObserver(self.tracers, self.meters, **settings)

    @property
    def spans(self):
        """Those that have ended, by their start, outer before inner."""
        return sorted(
            self.exporter.get_finished_spans(),
            key=lambda span: (span.start_time, -span.end_time, span.name == "attempt"),
        )

    def named(self, name):
        return [span for span in self.spans if span.name == name]

    def inside(self, outer):
        return [span for span in self.spans if span.parent and span.parent.span_id == outer.context.span_id]

    def metric(self, name):
        """Its points, by their attributes without those that all have."""
        (resource,) = self.reader.get_metrics_data().resource_metrics
        found = {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}
        return found[name]

    def points(self, name, *keys):
        return {tuple(p.attributes.get(key) for key in keys): p for p in self.metric(name).data.data_points}


@pytest.fixture
def collector():
    return Collector()


def generate(*observers, **settings):
    with MockLLM(observers=observers, **{**STEADY, **settings}) as llm:
        return llm.generate("The prompt is private.")


# ---- spans


def test_a_call_is_a_span_and_each_attempt_a_child_with_exact_times(collector):
    generate(collector.observer(), script=["overload"], refusal_latency=0.5)
    call, first, second = collector.spans
    assert [span.name for span in collector.spans] == ["chat", "attempt", "attempt"]
    assert call.parent is None
    assert collector.inside(call) == [first, second]
    assert {span.kind for span in collector.spans} == {SpanKind.CLIENT}
    times = [(span.start_time / SECOND, span.end_time / SECOND) for span in (call, first, second)]
    assert times == [(0, 3.5), (0, 0.5), (1.5, 3.5)]  # 0.5 refused, 1 backoff, 2 answered


def test_an_answered_call_says_what_the_conventions_ask_for(collector):
    generate(collector.observer(model="llama3.2", server_address="localhost", server_port=11434))
    call = collector.spans[0]
    assert call.name == "chat llama3.2"
    assert call.status.status_code is StatusCode.UNSET
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "mock",
        "gen_ai.request.model": "llama3.2",
        "server.address": "localhost",
        "server.port": 11434,
        "gen_ai.response.finish_reasons": ("stop",),
        "gen_ai.usage.input_tokens": 6,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.response.time_to_first_chunk": 0.5,
        "llmlab.fate": "answered",
        "llmlab.attempts": 1,
    }
    assert expected.items() <= dict(call.attributes).items()
    assert "error.type" not in call.attributes


def test_tokens_stand_at_the_calls_span_only_under_the_conventions_name(collector):
    generate(collector.observer())
    _, attempt = collector.spans
    assert not [name for name in attempt.attributes if name.startswith("gen_ai.usage") or name.endswith("operation")]
    assert attempt.attributes["llmlab.output_tokens"] == 7


def test_a_failure_is_an_error_with_its_reason_on_call_and_attempts(collector):
    generate(collector.observer(), rate_limit_probability=1.0, max_retries=1)
    call, *attempts = collector.spans
    assert [span.attributes["error.type"] for span in collector.spans] == ["rate_limited"] * 3
    assert {span.status.status_code for span in collector.spans} == {StatusCode.ERROR}
    assert call.attributes["llmlab.fate"] == "retries_exhausted"
    assert [span.attributes.get("http.request.resend_count") for span in attempts] == [None, 1]
    assert [span.attributes["http.response.status_code"] for span in attempts] == [429, 429]
    assert attempts[0].attributes["llmlab.backoff_s"] > 0
    assert "llmlab.backoff_s" not in attempts[1].attributes


def test_a_call_that_sent_nothing_is_a_span_without_children(collector):
    with MockLLM(observers=[collector.observer()]) as llm:
        llm.generate("")
    (call,) = collector.spans
    assert call.attributes["error.type"] == "empty_prompt"
    assert "gen_ai.provider.name" not in call.attributes


def test_waits_for_limits_stand_at_the_attempts_that_waited(collector):
    with MockLLM(observers=[collector.observer()], max_concurrency=1, **STEADY) as llm:
        llm.generate_many(["one", "two"], concurrency=2)
    waits = [span.attributes["llmlab.slot_wait_s"] for span in collector.named("attempt")]
    assert waits == [0.0, 2.0]


def test_a_cancelled_call_is_no_error_but_says_so(collector):
    async def main():
        client = AsyncMockLLM(observers=[collector.observer()], **STEADY)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(client.generate("Hello"), 1)

    run(main())
    assert [span.attributes["error.type"] for span in collector.spans] == ["cancelled"] * 2
    assert {span.status.status_code for span in collector.spans} == {StatusCode.UNSET}
    assert collector.spans[0].end_time == SECOND


def test_hedged_attempts_are_children_that_overlap(collector):
    policy = ClientPolicy(hedging=Hedging(delay=1.0))
    client = AsyncClient(MockBackend(script=["stall", "answer"], latency=2.0), policy, observers=[collector.observer()])
    run(client.generate("Hello"))
    call, first, second = collector.spans
    assert collector.inside(call) == [first, second]
    assert [span.attributes["llmlab.hedge"] for span in (first, second)] == [False, True]
    assert second.start_time < first.end_time


def test_neither_prompt_nor_answer_gets_into_any_span(collector):
    generate(collector.observer(), text="The answer is private.", script=["overload"])
    assert "private" not in "".join(span.to_json() for span in collector.spans)


# ---- whose child a call is


def test_a_call_is_the_child_of_what_its_caller_was_doing(collector):
    tracer = collector.tracers.get_tracer("application")

    async def caller(client, name):
        with tracer.start_as_current_span(name):
            await client.generate("Hello")

    async def main():
        client = AsyncMockLLM(observers=[collector.observer()], latency=1.0)
        await asyncio.gather(caller(client, "a"), caller(client, "b"))

    run(main())
    for name in ("a", "b"):
        (outer,) = collector.named(name)
        assert [span.name for span in collector.inside(outer)] == ["chat"]


@pytest.mark.parametrize("real_time", [False, True])
@pytest.mark.parametrize("many", [False, True])
def test_a_sync_call_is_the_child_of_what_its_thread_was_doing(collector, real_time, many):
    with (
        MockLLM(observers=[collector.observer()], latency=0.0, real_time=real_time) as llm,
        collector.tracers.get_tracer("application").start_as_current_span("work"),
    ):
        llm.generate_many(["Hello"] * 2) if many else llm.generate("Hello")
        assert get_current_span().is_recording()
    (outer,) = collector.named("work")
    assert [span.name for span in collector.inside(outer)] == ["chat"] * (2 if many else 1)


def test_a_stream_is_the_child_of_what_its_caller_was_doing(collector):
    async def main():
        client = AsyncMockLLM(observers=[collector.observer()], latency=1.0)
        with collector.tracers.get_tracer("application").start_as_current_span("work"):
            async with client.stream("Hello") as stream:
                return [piece async for piece in stream]

    assert run(main())
    (outer,) = collector.named("work")
    assert [span.name for span in collector.inside(outer)] == ["chat"]


def test_a_call_inside_another_client_is_the_child_of_the_attempt_that_it_served(collector):
    inner = Layer(
        MockBackend(script=["overload"], latency=1.0), ClientPolicy(retry=RetryPolicy(max_retries=1)), name="sdk"
    )
    backend = Fallback([Layer(MockBackend(script=["server_error"] * 9), name="first"), inner])
    client = AsyncClient(backend, observers=[collector.observer()])
    run(client.generate("Hello"))
    (outer,) = [span for span in collector.spans if span.parent is None]
    (attempt,) = collector.inside(outer)
    calls = collector.inside(attempt)
    assert [span.attributes["llmlab.layer"] for span in calls] == ["first", "sdk"]
    assert [len(collector.inside(span)) for span in calls] == [3, 2]
    assert outer.attributes["gen_ai.provider.name"] == "mock"


def test_an_observer_of_an_inner_client_alone_keeps_a_bounded_number_of_calls(collector):
    inside = collector.observer()
    inner = AsyncClient(MockBackend(latency=0.1), observers=[inside], layer="sdk")

    async def main():
        client = AsyncClient(inner)
        for _ in range(1030):
            await client.generate("Hello")

    run(main())
    assert len(collector.named("chat")) == 6
    inside.close()
    assert len(collector.named("chat")) == 1030


# ---- times


def test_in_virtual_time_the_same_run_gives_the_same_times(collector):
    for _ in range(2):
        generate(collector.observer(virtual_epoch=1_000.0))
    assert [span.start_time for span in collector.named("chat")] == [1000 * SECOND] * 2


def test_in_real_time_spans_have_the_time_of_the_wall_clock(collector):
    before = time.time_ns()
    generate(collector.observer(), latency=0.0, real_time=True)
    after = time.time_ns()
    millisecond = SECOND // 1000  # the two clocks are read one after the other
    assert before - millisecond <= collector.spans[0].start_time <= collector.spans[0].end_time <= after + millisecond


def test_recorded_events_can_be_told_afterwards(collector, tmp_path):
    with JsonLinesObserver(tmp_path / "events.jsonl") as file:
        generate(file, script=["overload"])
    observer = collector.observer()
    for event in read_json_lines(tmp_path / "events.jsonl"):
        (observer.on_call if hasattr(event, "fate") else observer.on_attempt)(event)
    assert [span.name for span in collector.spans] == ["chat", "attempt", "attempt"]


# ---- metrics


def test_the_durations_of_calls_are_counted_by_error(collector):
    observer = collector.observer(model="m")
    generate(observer)
    generate(observer, overload_probability=1.0, max_retries=0, refusal_latency=0.5)
    points = collector.points("gen_ai.client.operation.duration", "error.type")
    assert {key: (point.count, point.sum) for key, point in points.items()} == {
        (None,): (1, 2.0),
        ("overloaded",): (1, 0.5),
    }
    assert points[None,].attributes["gen_ai.request.model"] == "m"
    assert points[None,].explicit_bounds[:3] == (0.01, 0.02, 0.04)


def test_tokens_are_counted_also_of_attempts_that_failed(collector):
    with MockLLM(observers=[collector.observer()], script=["malformed"], **STEADY) as llm:
        llm.generate(LLMRequest(prompt="Hello", response_format="json"))
    log = EventLog()
    with MockLLM(observers=[log], script=["malformed"], **STEADY) as llm:
        llm.generate(LLMRequest(prompt="Hello", response_format="json"))
    points = collector.points("gen_ai.client.token.usage", "gen_ai.token.type")
    assert points["output",].count == 2
    assert points["output",].sum == sum(attempt.output_tokens for attempt in log.attempts)


def test_time_to_first_chunk_counts_from_the_start_of_the_call(collector):
    generate(collector.observer(), script=["overload"], refusal_latency=0.5)
    (point,) = collector.points("gen_ai.client.operation.time_to_first_chunk", "error.type").values()
    assert point.sum == 2.0  # 0.5 refused, 1 backoff, a quarter of 2 to the first token


def test_of_stacked_clients_nothing_is_counted_twice(collector):
    inner = Layer(MockBackend(script=["overload"], latency=1.0), name="sdk")
    run(AsyncClient(inner, observers=[collector.observer()]).generate("Hello"))
    assert sum(p.count for p in collector.points("gen_ai.client.operation.duration", "error.type").values()) == 1
    assert sum(p.count for p in collector.points("llmlab.client.attempt.duration", "error.type").values()) == 2
    assert collector.points("gen_ai.client.token.usage", "gen_ai.token.type")["input",].count == 1


# ---- without


def test_without_opentelemetry_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(SettingsError, match=r'pip install "llmlab\[otel\]"'):
        OpenTelemetryObserver()


def test_without_a_provider_it_does_nothing_and_breaks_nothing():
    assert generate(OpenTelemetryObserver()).ok


def test_providers_in_each_others_place_are_refused(collector):
    with pytest.raises(TypeError, match=r"tracer_provider must have a method get_tracer, .* got a MeterProvider"):
        OpenTelemetryObserver(collector.meters)
    with pytest.raises(TypeError, match=r"meter_provider must have a method get_meter, .* got a TracerProvider"):
        OpenTelemetryObserver(None, collector.tracers)


def test_an_epoch_that_is_no_time_is_refused(collector):
    with pytest.raises(SettingsError, match="virtual_epoch must be a number of seconds since 1970, got nan"):
        OpenTelemetryObserver(collector.tracers, collector.meters, virtual_epoch=float("nan"))
