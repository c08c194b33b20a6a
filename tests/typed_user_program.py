"""A program as a user would write it. It is type-checked strictly, and run as a test (`test_typed_user_program.py`)."""

from __future__ import annotations

import asyncio

from pydantic import BaseModel

from llmlab import (
    SLO,
    Answer,
    AsyncLLMStream,
    AsyncMockLLM,
    AttemptFailure,
    AttemptKey,
    Backoff,
    BurstyArrivals,
    Client,
    ClientPolicy,
    ClosedLoop,
    Empirical,
    EventLog,
    Experiment,
    FailureReason,
    Fallback,
    Layer,
    LLMFailure,
    LLMRequest,
    LLMResponse,
    LLMStream,
    Lognormal,
    LogRange,
    MockBackend,
    MockLLM,
    OpenLoop,
    RateRamp,
    RetryPolicy,
    Sweep,
    Timeouts,
    TraceArrivals,
    WithFaults,
    export_policy,
    prompts,
    recommend,
    tune,
    virtual_time,
)


class City(BaseModel):
    """What to ask for."""

    name: str


class Echo:
    """A backend of one's own."""

    simulated = True

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Answer | AttemptFailure:
        """Answer with the prompt, at the second attempt."""
        await asyncio.sleep(0.1)
        if key.attempt == 1:
            return AttemptFailure(FailureReason.OVERLOADED, "busy", status_code=503, retry_after=1.0)
        return Answer(f"You said: {request.prompt}")


class Steady(Backoff):
    """A policy of one's own: the same wait before every retry."""

    def delay(self, retry: int, previous: float, u: float) -> float:
        """Wait for `base` seconds."""
        return self.base


def said(result: LLMResponse | LLMFailure) -> str:
    """Tell the two results apart."""
    if result.ok:
        return result.text
    return f"{result.reason}, {'may be tried again' if result.retryable else 'final'}"


def told(pieces: LLMStream) -> str:
    """Read a stream and tell how it ended."""
    with pieces as stream:
        text = "".join(piece.upper() for piece in stream)
    return f"{text} {said(stream.result)}"


async def told_async(llm: AsyncMockLLM) -> str:
    """Read an async stream to its end."""
    stream: AsyncLLMStream = llm.stream(LLMRequest(prompt="Tell me a story"))
    text = "".join([piece async for piece in stream])
    result = stream.result
    return text if result.ok else result.partial_text


async def many() -> list[str]:
    """Ask many at once."""
    llm = AsyncMockLLM(timeout_probability=0.2, max_retries=5, latency=0.5)
    return [said(result) for result in await llm.generate_many(["one", LLMRequest(prompt="two")])]


def main() -> list[str]:
    """Use every common part once."""
    log = EventLog()
    lines = [said(MockLLM(latency=Lognormal(median=1, sigma=0.5), observers=[log], seed=3).generate("Hello"))]
    lines.append(said(Client(Echo(), ClientPolicy(retry=RetryPolicy(max_retries=1))).generate("Hi")))
    evenly = ClientPolicy(retry=RetryPolicy(max_retries=1, backoff=Steady(base=2.0)))
    several = Fallback([Layer(Echo(), evenly, name="echo", model="m"), MockBackend()], on={FailureReason.OVERLOADED})
    lines.append(said(Client(several).generate("Again")))
    conversation = LLMRequest(messages=[{"role": "user", "content": "Where?"}], response_format=City, stop="END")
    city = MockLLM().generate(conversation).unwrap().parsed
    lines.append(f"{city.name}, {len(log)} attempt")
    lines += [
        told(MockLLM(text="Once upon a time").stream("Tell me a story")),
        virtual_time.run(told_async(AsyncMockLLM())),
    ]
    lines += virtual_time.run(many())
    base = Experiment(
        backend=WithFaults(MockBackend(latency=Empirical(values=[1, 2, 3])), timeout_probability=0.1),
        workload=ClosedLoop(calls=20, users=2, requests=["a", "b"]),
    )
    result = Sweep(base, {"policy.retry.max_retries": [0, 2]}).run(progress=False)
    lines.append(f"{len(result.calls)} calls, {len(result.summary())} points")
    found = recommend(result, SLO(success_rate=0.5, p95_latency_s=100), minimise="amplification")
    lines.append(f"{found.status}: {export_policy(found.policy(base.policy), 'tenacity').left_out[0]}")
    searched = tune(base, {"policy.attempt_timeout": LogRange(1, 9)}, slo=found.slo, runs=2, progress=False)
    lines.append(f"{len(searched.result.runs)} runs, {searched.recommendation.status}")
    ramp = RateRamp(points=[(0, 1), (10, 5)])
    bursts = OpenLoop(rate=ramp, arrivals=BurstyArrivals(cv=2), duration=10, requests=prompts(["c", {"prompt": "d"}]))
    replayed = OpenLoop(arrivals=TraceArrivals.read([3.0, 3.5, 7]), requests="e")
    steady = OpenLoop(rate=5, arrivals="constant", calls=3)
    for workload in (bursts, replayed, steady):
        base.replace(workload=workload).run()
    lines.append(f"{len(list(replayed.times(seed=0)))} recorded")
    return lines
