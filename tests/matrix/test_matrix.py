"""Every fault of the fault server, over a real socket, for each client, sync and async, plain and streamed.

Only the faults that hang are ended by short bounds; no other result depends on how fast the machine is.
"""

import asyncio
import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmlab import (
    AsyncLocalLLM,
    AsyncOpenAILLM,
    Backoff,
    Client,
    ClientPolicy,
    EventLog,
    FaultServer,
    LLMRequest,
    LocalLLM,
    MockBackend,
    OpenAILLM,
    RetryPolicy,
    Timeouts,
)
from llmlab.backends.faults import FaultKind, Faults
from tests.matrix.expectations import AFTER_TEXT, CLIENTS, HANGS, RETRIES, expected, page

SCHEMA = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}
REQUEST = LLMRequest(prompt="Name a planet.", response_format=SCHEMA)
LONG, SHORT = 30.0, 0.2  # seconds: never reached; reached by what hangs
CELLS = list(itertools.product(CLIENTS, ["plain", "streamed"], [0, RETRIES]))


def made(kind, server, client, policy, log):
    """Make a client; `kind` 0 is the sync one of its name, 1 the async one."""
    if client == "LocalLLM":
        return (LocalLLM, AsyncLocalLLM)[kind](base_url=server.url, model="mock", policy=policy, observers=[log])
    return (OpenAILLM, AsyncOpenAILLM)[kind](base_url=server.openai_url, model="mock", policy=policy, observers=[log])


def policy(kind, retries):
    """Only the phase that hangs has a short bound, so that however slow the machine is, no other ends an attempt."""
    begins = kind in HANGS & AFTER_TEXT
    return ClientPolicy(
        retry=RetryPolicy(max_retries=retries, backoff=Backoff(base=0.0)),
        attempt_timeout=SHORT if kind in HANGS - AFTER_TEXT else LONG,
        total_timeout=2 * LONG,
        timeouts=Timeouts(connect=LONG, first_byte=LONG, between_chunks=SHORT if begins else LONG),
    )


def asked(server, kind, client, how, retries):
    """Ask as a sync client does; return the result, the text handed out and the attempts."""
    log = EventLog()
    with made(0, server, client, policy(kind, retries), log) as llm:
        if how == "plain":
            return llm.generate(REQUEST), "", log
        with llm.stream(REQUEST) as stream:
            text = "".join(stream)
        return stream.result, text, log


async def asked_async(server, kind, client, how, retries):
    log = EventLog()
    async with made(1, server, client, policy(kind, retries), log) as llm:
        if how == "plain":
            return await llm.generate(REQUEST), "", log
        async with llm.stream(REQUEST) as stream:
            text = "".join([piece async for piece in stream])
        return stream.result, text, log


async def all_asked_async(server, kind):
    met = await asyncio.gather(*(asked_async(server, kind, *cell) for cell in CELLS))
    for _ in range(10):  # generators of httpcore's, dropped half-way, are closed by the loop in its next turns
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert [timer for timer in asyncio.get_running_loop()._scheduled if not timer.cancelled()] == []
    return met


def check(kind, cell, met):
    client, how, retries = cell
    result, text, log = met
    wanted = expected(kind, client)
    assert not result.ok, cell
    assert not text or kind in AFTER_TEXT, cell
    assert text or how == "plain" or kind not in HANGS & AFTER_TEXT, cell
    assert (result.reason, result.retryable) == (wanted.reason, wanted.retryable), (cell, result.message)
    assert result.attempts == wanted.attempts(retries, text_was_handed_out=bool(text)), cell
    assert [attempt.reason for attempt in log.attempts] == [wanted.reason] * result.attempts, cell
    assert result.latency < LONG, cell


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_fault_is_met_as_expected_by_every_client_and_nothing_is_left(kind):
    descriptors = Path("/proc/self/fd")
    faults = Faults(**{str(kind): 1.0}, slow_drip_factor=1e6)
    with Client(MockBackend(), real_time=True) as warm:  # the loop thread of the sync clients stays
        warm.generate(" ")
    threads = threading.active_count()
    before = len(list(descriptors.iterdir())) if descriptors.exists() else 0
    with FaultServer(MockBackend(latency=0.02, refusal_latency=0.0, faults=faults)) as server:
        with ThreadPoolExecutor(len(CELLS)) as pool:
            in_threads = list(pool.map(lambda cell: asked(server, kind, *cell), CELLS))
        as_tasks = asyncio.run(all_asked_async(server, kind))
        assert server.wait_until_closed(LONG)
        records = [record for record in server.requests if record.fault is not None]
    for met in (in_threads, as_tasks):
        for cell, one in zip(CELLS, met, strict=True):
            check(kind, cell, one)
    assert {record.fault for record in records} == {str(kind)}
    assert threading.active_count() <= threads
    if descriptors.exists():  # others of this process may open some meanwhile, but not one for each cell
        assert len(list(descriptors.iterdir())) < before + len(CELLS)


def test_the_page_of_the_documentation_says_what_is_tested():
    assert (Path(__file__).parents[2] / "notebooks" / "fault_matrix.md").read_text(encoding="utf-8") == page()
