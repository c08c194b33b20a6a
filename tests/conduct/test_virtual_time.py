"""Clients on trial under virtual time, through the transport in memory: the same records, the same judge."""

import asyncio

import httpx
import openai
import pytest

from llmlab import MockBackend, SimulatedTransport, seeded_random, virtual_time
from llmlab.conduct.judge import judge
from llmlab.conduct.standards import Standards

CALLS = 40
QUESTION = {"model": "any", "stream": True}


def transport(**settings):
    return SimulatedTransport(MockBackend(latency=0.2, **settings))


async def hasty(http, number, path="/v1/chat/completions"):
    """A client that asks again whatever it was told, at once, nine times, and takes what it gets of a stream."""
    body = {**QUESTION, "messages": [{"role": "user", "content": f"Fact {number}"}]}
    for _ in range(10):
        async with http.stream("POST", f"http://simulated{path}", json=body) as answer:
            if answer.status_code == 200:
                return await answer.aread()
    return None


async def all_at_once(server, ask):
    async with httpx.AsyncClient(transport=server) as http:
        await asyncio.gather(*(ask(http, number) for number in range(CALLS)))


def verdict_on_the_hasty(path="/v1/chat/completions", **settings):
    server = transport(**settings)
    virtual_time.run(all_at_once(server, lambda http, number: hasty(http, number, path)))
    return judge(server.recording(), Standards(deadline=1.0, max_in_flight=8))


@pytest.mark.parametrize(
    ("weather", "guilty"),
    [
        ({"overload_probability": 1.0}, {"amplified", "no_backoff", "too_many_in_flight"}),
        ({"overload_probability": 1.0, "faults": {"retry_after": 2.0}}, {"amplified", "ignored_retry_after"}),
        ({"path": "/v1/nowhere"}, {"retried_final_answer", "amplified"}),
    ],
    ids=["busy", "told to wait", "nothing there"],
)
def test_a_client_that_knows_no_patience_is_guilty_of_what_it_does(weather, guilty):
    assert guilty <= set(verdict_on_the_hasty(**weather).guilty)


def test_the_sdk_of_openai_waits_with_jitter_and_gives_up():
    server = transport(overload_probability=1.0)

    async def ask(client, number):
        messages = [{"role": "user", "content": f"Fact {number}"}]
        with pytest.raises(openai.InternalServerError):
            await client.chat.completions.create(model="any", messages=messages)

    async def main():
        http = openai.DefaultAsyncHttpxClient(transport=server)
        async with openai.AsyncOpenAI(api_key="none", base_url="http://simulated/v1", http_client=http) as client:
            await asyncio.gather(*(ask(client, number) for number in range(CALLS)))

    with seeded_random(7):
        virtual_time.run(main(), executor="inline")
    verdict = judge(server.recording(), Standards(deadline=10.0))
    assert verdict.passed, str(verdict)
    innocent = {finding.rule for finding in verdict.findings if finding.ruling == "innocent"}
    assert {"amplified", "no_backoff", "no_jitter", "hung"} <= innocent
    assert verdict.calls == CALLS
    assert not verdict.notices, "its retries are told by what it says of them"
