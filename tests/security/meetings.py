"""All the ways in which a client and a server meet, with canaries in everything that is private.

What comes back and what is left behind is handed to a witness (`canaries.py`).
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import httpx
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llmlab import (
    AsyncLocalLLM,
    AsyncMockLLM,
    AsyncOpenAILLM,
    Backoff,
    ClientPolicy,
    EventLog,
    FaultKind,
    FaultServer,
    JsonLinesObserver,
    LLMError,
    LLMFailure,
    LLMRequest,
    LocalLLM,
    LoggingObserver,
    MockBackend,
    MockLLM,
    OpenAILLM,
    OpenTelemetryObserver,
    RetryPolicy,
    Timeouts,
    virtual_time,
)
from llmlab.conduct.judge import judge
from llmlab.server.replay import ReplayServer
from tests import ollama_replay, openai_replay
from tests.security.canaries import CANARIES, ERROR, KEY, OUTPUT, PROMPT, STOP, SYSTEM, TURN

if TYPE_CHECKING:
    from pathlib import Path

    from llmlab.server.recording import Exchange
    from tests.security.canaries import Witness

ALONE = LLMRequest(
    prompt=PROMPT, system=SYSTEM, stop=STOP, metadata={"note": CANARIES["metadata"]}, model="mock", max_tokens=50
)
TURNS = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": TURN}, {"role": "user", "content": TURN}]
CONVERSATION = LLMRequest(messages=TURNS, system=SYSTEM, model="mock")
AS_JSON = LLMRequest(prompt=PROMPT, model="mock", response_format={"type": "object", "required": ["a"]})
SHORT = Timeouts(connect=0.2, first_byte=0.2, between_chunks=0.2)
AT_ONCE = RetryPolicy(max_retries=1, backoff=Backoff(base=0, jitter="none"))
POLICY = ClientPolicy(timeouts=SHORT, retry=AT_ONCE, attempt_timeout=5.0)


class Observed:
    """Every built-in observer at once, and what becomes of what they were told."""

    def __init__(self, folder: Path) -> None:
        self.log = EventLog()
        self.spans = InMemorySpanExporter()
        self.metrics = InMemoryMetricReader()
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        meters = MeterProvider([self.metrics])
        self.lines = JsonLinesObserver(folder / "events.jsonl")
        self.all = [self.log, self.lines, LoggingObserver(), OpenTelemetryObserver(tracers, meters, model="mock")]

    def told(self, witness: Witness) -> None:
        """Hand over all that was observed."""
        self.lines.close()
        for value in (self.log, *self.log.attempts, *self.log.calls, *self.all):
            witness.was_shown(value)
        for span in self.spans.get_finished_spans():
            witness.saw("a span", span.to_json())
        witness.saw("metrics", self.metrics.get_metrics_data().to_json())


def show_result(witness: Witness, result: Any) -> None:
    """Hand over a result and what it raises."""
    witness.was_shown(result)
    try:
        result.unwrap()
    except LLMError as error:
        witness.was_raised(error)
    if isinstance(result, LLMFailure) and result.cause is not None:
        witness.was_raised(result.cause)


def sync_calls(witness: Witness, llm: Any) -> list[Any]:
    """Ask in every way that a sync client has."""
    results = [llm.generate(ALONE), llm.generate(CONVERSATION), *llm.generate_many([AS_JSON, PROMPT])]
    with llm.stream(ALONE) as stream:
        first = next(iter(stream), None)
        witness.was_shown(stream)
        for _ in stream:
            pass
        results.append(stream.result)
    assert first is None or OUTPUT.startswith(first) or not stream.result.ok
    witness.was_shown(stream)
    witness.was_shown(llm)
    for result in results:
        show_result(witness, result)
    return results


async def async_calls(witness: Witness, llm: Any) -> list[Any]:
    """Ask in every way that an async client has, with asyncio's own log at its most talkative."""
    loop = asyncio.get_running_loop()
    if not isinstance(loop, virtual_time.VirtualLoop):
        loop.set_debug(True)
        loop.slow_callback_duration = 0.0  # says what each task returned
    results = [await asyncio.create_task(llm.generate(ALONE))]
    async with llm:
        results += [result async for _, _, result in llm.generate_many([CONVERSATION, AS_JSON, PROMPT])]
        async with llm.stream(ALONE) as stream:
            async for _ in stream:
                witness.was_shown(stream)
            results.append(stream.result)
        cancelled = asyncio.create_task(llm.generate(ALONE))
        await asyncio.sleep(0)
        cancelled.cancel()
        try:
            await cancelled
        except asyncio.CancelledError as error:
            witness.was_raised(error)
        witness.was_shown(llm)
    for result in results:
        show_result(witness, result)
    return results


def simulated(witness: Witness, observed: Observed) -> list[Any]:
    """Meet the simulated server in memory."""
    results = []
    for kind in ("answer", *FaultKind):
        settings = {"text": OUTPUT, "script": (kind, kind), "policy": POLICY, "observers": observed.all}
        results += sync_calls(witness, MockLLM(**settings))
        results += virtual_time.run(async_calls(witness, AsyncMockLLM(**settings)))
    return results


def on_loopback(witness: Witness, observed: Observed, folder: Path) -> list[Any]:
    """Meet the fault server with every fault, look at all its pages, and judge what it recorded."""
    results = []
    settings = {"model": "mock", "policy": POLICY, "observers": observed.all}
    server = FaultServer(MockBackend(text=OUTPUT, latency=0.0), record=folder / "conduct.jsonl")
    with server:
        ollama, openai = {"base_url": server.url, **settings}, {"base_url": server.openai_url, **settings}
        results += sync_calls(witness, LocalLLM(**ollama)) + sync_calls(witness, OpenAILLM(**openai))
        results += asyncio.run(async_calls(witness, AsyncLocalLLM(**ollama)))
        results += asyncio.run(async_calls(witness, AsyncOpenAILLM(**openai)))
        for kind in FaultKind:
            server.weather(script=(kind, kind))
            results.append(LocalLLM(**ollama).generate(ALONE))
            with OpenAILLM(**openai).stream(CONVERSATION) as stream:
                results.append((list(stream), stream.result)[1])
        for result in results:
            show_result(witness, result)
        look_at(witness, server)
        recording = server.recording()
    for value in (server, recording, verdict := judge(recording)):
        witness.was_shown(value)
    witness.saw("a verdict", verdict.model_dump_json())
    return results


def look_at(witness: Witness, server: FaultServer) -> None:
    """Ask the fault server for everything that it says of itself."""
    with httpx.Client(trust_env=False, base_url=server.url) as http:
        answers = [http.get("/", headers={"accept": "text/html"})]
        answers += [http.get(f"/__llmlab__/{name}") for name in ("state", "weather", "nothing")]
        json_of = {"content-type": "application/json"}
        answers.append(http.patch("/__llmlab__/weather", content=b"[]", headers=json_of))
        answers.append(http.post("/__llmlab__/reset", content=b"{}", headers=json_of))
    for answer in answers:
        witness.saw("the fault server's own pages", answer.content + str(answer.headers).encode())
    witness.saw("the fault server's state", json.dumps(server.state()))


_HEADERS = tuple((name, CANARIES["header"]) for name in ("Set-Cookie", "X-Request-Id", "Retry-After", "Date"))
_ECHO = {"error": {"message": f"cannot read: {PROMPT} {SYSTEM} {TURN}, Bearer {KEY}"}}
_CUT_LINE = ollama_replay.line(OUTPUT)[:-20]
HOSTILE: list[tuple[Exchange, Exchange]] = [
    (
        ollama_replay.answer(ollama_replay.line(OUTPUT), ollama_replay.LAST, headers=_HEADERS),
        openai_replay.answer(openai_replay.chunk(OUTPUT), openai_replay.LAST, headers=_HEADERS),
    ),
    *(
        (
            ollama_replay.answer(*body, status=status, headers=_HEADERS, ending=ending),
            openai_replay.answer(*event, status=status, headers=_HEADERS, ending=ending),
        )
        for status, ending, body, event in [
            ("200 OK", "cut", [ollama_replay.line(OUTPUT)], [openai_replay.chunk(OUTPUT)]),
            ("200 OK", "reset", [ollama_replay.line(OUTPUT)], [openai_replay.chunk(OUTPUT)]),
            ("200 OK", "stall", [ollama_replay.line(OUTPUT)], [openai_replay.chunk(OUTPUT)]),
            ("200 OK", "complete", [_CUT_LINE], [b"data: " + OUTPUT.encode() + b"\n\n"]),
            ("200 OK", "complete", [OUTPUT.encode()], [OUTPUT.encode()]),
            ("200 OK", "complete", [ollama_replay.line(done=OUTPUT)], [openai_replay.event({"choices": [OUTPUT]})]),
            (
                "200 OK",
                "complete",
                [ollama_replay.line(OUTPUT), json.dumps(_ECHO).encode()],
                [openai_replay.chunk(OUTPUT), openai_replay.event(_ECHO)],
            ),
            ("400 Bad Request", "complete", [json.dumps(_ECHO).encode()], [json.dumps(_ECHO).encode()]),
            ("401 Unauthorized", "complete", [json.dumps(_ECHO).encode()], [json.dumps(_ECHO).encode()]),
            ("429 Too Many Requests", "complete", [b"{}"], [b"{}"]),
            ("500 Internal Server Error", "complete", [PROMPT.encode()], [f"<p>{PROMPT} {KEY}</p>".encode()]),
            ("503 Service Unavailable", "complete", [json.dumps({"error": ERROR}).encode()], [ERROR.encode()]),
        ]
    ),
]


def with_hostile_servers(witness: Witness, observed: Observed) -> list[Any]:
    """Meet servers that repeat what they were told, and break off in the middle of an answer."""
    results = []
    settings = {"model": "mock", "policy": POLICY, "observers": observed.all}
    for pair in HOSTILE:
        with ReplayServer(pair) as server:
            for request in (LLMRequest(prompt=PROMPT, system=SYSTEM), LLMRequest(messages=TURNS), AS_JSON):
                if request.prompt is not None:  # a conversation goes to another path of Ollama's
                    results.append(LocalLLM(base_url=server.url, **settings).generate(request))
                with OpenAILLM(base_url=f"{server.url}/v1", **settings).stream(request) as stream:
                    results.append((list(stream), stream.result)[1])
            witness.was_shown(server)
    for result in results:
        show_result(witness, result)
    return results
