"""llmlab's own clients against the fault server: in time, nothing left behind, and no offence."""

import asyncio
from functools import partial
from pathlib import Path

import pytest
from pydantic import BaseModel

from llmlab import (
    AsyncLocalLLM,
    AsyncOpenAILLM,
    Backoff,
    ClientPolicy,
    FailureReason,
    FaultKind,
    LLMRequest,
    LocalLLM,
    MockBackend,
    OpenAILLM,
    RetryPolicy,
)
from llmlab.conduct.judge import judge
from llmlab.conduct.standards import Standards
from llmlab.server.fault_server import FaultServer
from tests.matrix.expectations import expected

DEADLINE_S = 20.0
RETRY = RetryPolicy(max_retries=1, backoff=Backoff(base=0.02, jitter="none"))
# One slot: a call that kept it would let the next one wait until its deadline, with another reason.
POLICY = ClientPolicy(attempt_timeout=None, total_timeout=DEADLINE_S, max_concurrency=1, retry=RETRY)
CALLS = 2


class Planet(BaseModel):
    """What every fault of a text can be told by."""

    name: str
    moons: int


REQUEST = LLMRequest(prompt="Describe a planet.", response_format=Planet)


def weather(kind):
    return MockBackend(latency=0.01, faults={kind: 1.0, "slow_drip_factor": 1000.0})


def sockets():
    """How many sockets this process holds; `None` where the system does not say."""
    folder = Path("/proc/self/fd")
    if not folder.exists():
        return None
    return sum(1 for entry in folder.iterdir() if entry.is_symlink() and "socket:" in str(entry.readlink()))


def local(kind, server, policy):
    return kind(base_url=server.url, model="tiny", policy=policy)


def openai(kind, server, policy):
    return kind(base_url=server.openai_url, model="tiny", api_key_env=None, policy=policy)


def calls_of(make, kind, server, policy):
    with make(kind, server, policy) as llm:
        return [llm.generate(REQUEST) for _ in range(CALLS)]


async def calls_of_async(make, kind, server, policy):
    async with make(kind, server, policy) as llm:
        results = [await llm.generate(REQUEST) for _ in range(CALLS)]
    for _ in range(10):  # generators of httpcore's, dropped half-way, are closed by the loop in its next turns
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left behind"
    return results


def calls_in_a_loop(make, kind, server, policy):
    return asyncio.run(calls_of_async(make, kind, server, policy))


CLIENTS = {
    "LocalLLM": partial(calls_of, local, LocalLLM),
    "OpenAILLM": partial(calls_of, openai, OpenAILLM),
    "AsyncLocalLLM": partial(calls_in_a_loop, local, AsyncLocalLLM),
    "AsyncOpenAILLM": partial(calls_in_a_loop, openai, AsyncOpenAILLM),
}

ASYNC_CLIENTS = ("AsyncLocalLLM", "AsyncOpenAILLM")


@pytest.fixture(scope="module", autouse=True)
def _loop_of_the_sync_clients():
    """Start the thread that all sync clients share, so that its sockets are there before any are counted."""
    with FaultServer(MockBackend(latency=0.01)) as server:
        assert CLIENTS["LocalLLM"](server, POLICY)[0].ok


@pytest.mark.parametrize("kind", FaultKind)
def test_a_fault_costs_no_client_a_slot_or_a_socket_and_the_judge_finds_no_offence(kind):
    """What each client makes of it is the matrix's to say; here a call must find the slot of the one before it free.

    The sync clients are a thin face of the async ones, and give back what these do.
    """
    hangs, before = POLICY.replace(attempt_timeout=0.1), sockets()
    with FaultServer(weather(kind)) as server:
        for client in ASYNC_CLIENTS:
            reason = expected(kind, client.removeprefix("Async")).reason
            results = CLIENTS[client](server, hangs if reason is FailureReason.ATTEMPT_TIMEOUT else POLICY)
            assert [result.reason for result in results] == [reason] * CALLS, client
            assert server.wait_until_closed(), f"{client} left a connection open"
    assert sockets() == before
    verdict = judge(server.recording(), Standards(deadline=DEADLINE_S, client_ended=True))
    assert verdict.passed, str(verdict)
    assert verdict.calls == CALLS * len(ASYNC_CLIENTS)


@pytest.mark.parametrize("client", CLIENTS)
def test_a_silent_server_is_left_at_the_deadline(client):
    policy = POLICY.replace(total_timeout=0.2)
    with FaultServer(weather(FaultKind.TIMEOUT)) as server:
        results = CLIENTS[client](server, policy)
        assert server.wait_until_closed(), "a connection was left open"
    assert {result.reason for result in results} == {FailureReason.TOTAL_DEADLINE_EXCEEDED}
    verdict = judge(server.recording(), Standards(deadline=0.2, deadline_tolerance=10.0, client_ended=True))
    assert verdict["hung"].ruling == "innocent"


@pytest.mark.parametrize("client", ASYNC_CLIENTS)
def test_the_default_policy_is_acquitted_in_foul_weather(client):
    """Thirty calls at once under refusals with and without Retry-After, cut streams and broken answers."""
    foul = {"rate_limit": 0.2, "overload": 0.2, "server_error": 0.1, "cut": 0.1, "no_end_marker": 0.1, "reset": 0.1}
    backend = MockBackend(latency=0.02, faults={**foul, "retry_after": 0.3, "retry_after_with": ("rate_limit",)})

    async def many():
        make, kind = CLIENTS[client].args
        async with make(kind, server, ClientPolicy()) as llm:
            return [result async for _, _, result in llm.generate_many([f"Fact {n}" for n in range(30)])]

    with FaultServer(backend) as server:
        results = asyncio.run(many())
        assert server.wait_until_closed()
    recording = server.recording()
    assert len(results) == 30
    verdict = judge(recording, Standards(deadline=ClientPolicy().total_timeout, client_ended=True))
    assert verdict.passed, str(verdict)
    told = ("ignored_retry_after", "amplified", "no_backoff", "no_jitter", "hung", "leaked_connections")
    assert {verdict[rule].ruling for rule in told} == {"innocent"}, str(verdict)
