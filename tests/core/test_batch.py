import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmlab import Answer, AsyncClient, AsyncMockLLM, ClientPolicy, EventLog, Fate, LLMRequest, MockLLM
from llmlab.core.batch import Results
from llmlab.virtual_time import run


class Named:
    """Does what the prompt says: sleeps that long, or misbehaves."""

    simulated = True

    def __init__(self):
        self.inside = self.most = 0

    async def attempt(self, request, *, timeouts, key):
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            if request.prompt == "bug":
                await asyncio.sleep(1)
                raise ZeroDivisionError("a bug")
            if request.prompt == "cancel":
                raise asyncio.CancelledError
            await asyncio.sleep(float(request.prompt))
            return Answer(request.prompt)
        finally:
            self.inside -= 1


@settings(max_examples=30)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 5))
def test_results_come_in_the_order_of_the_requests_and_iteration_in_the_order_of_completion(latencies, concurrency):
    prompts = [str(latency) for latency in latencies]

    async def main():
        backend = Named()
        client = AsyncClient(backend)
        results = await client.generate_many(prompts, concurrency=concurrency)
        assert [result.text for result in results] == prompts
        assert backend.most <= concurrency
        loop, ends = asyncio.get_running_loop(), []
        batch = client.generate_many(prompts, concurrency=concurrency)
        async for position, request, result in batch:
            assert request.prompt == prompts[position] == result.text
            assert batch.results[position] is result
            ends.append(loop.time())
        assert ends == sorted(ends)
        assert len(ends) == len(prompts)
        if concurrency >= len(prompts):
            began = ends[0] - min(latencies) if ends else 0
            assert [end - began for end in ends] == sorted(latencies)

    run(main())


def test_one_failed_request_loses_no_other():
    with MockLLM() as llm:
        results = llm.generate_many(["a", " ", LLMRequest(prompt="b")])
        assert [result.ok for result in results] == [True, False, True]
        assert llm.generate_many([]) == []


@pytest.mark.parametrize("concurrency", [1, 2, 9])
def test_a_bug_in_one_request_lets_the_others_end_and_is_then_raised(concurrency):
    async def main():
        batch = AsyncClient(Named()).generate_many(["1", "bug", "2", "3"], concurrency=concurrency)
        with pytest.raises(ZeroDivisionError):
            await batch
        assert [result and result.text for result in batch.results] == ["1", None, "2", "3"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


def test_a_request_that_is_cancelled_from_inside_is_a_result_like_any_other():
    async def main():
        results = await AsyncClient(Named()).generate_many(["1", "cancel", "2"], concurrency=1)
        assert [result.ok for result in results] == [True, False, True]
        assert results[1].fate is Fate.CANCELLED

    run(main())


def test_a_cancelled_batch_keeps_what_is_done_and_leaves_nothing_running():
    log = EventLog()

    async def main():
        client = AsyncClient(Named(), ClientPolicy(max_concurrency=2), observers=[log])
        batch = client.generate_many(["1", "2", "9", "9", "9"])

        async def wait():
            await batch

        task = asyncio.create_task(wait())
        await asyncio.sleep(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert [result and result.text for result in batch.results] == ["1", "2", None, None, None]
        assert client.state.slots.in_use == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())
    assert sorted(call.fate for call in log.calls) == ["answered", "answered", "cancelled", "cancelled"]


@pytest.mark.parametrize("close", [True, False])
def test_leaving_the_iteration_early_cancels_the_rest(close):
    async def main():
        client = AsyncClient(Named(), ClientPolicy(max_concurrency=3))
        batch = client.generate_many(["1", "2", "3", "4"])
        iteration = aiter(batch)
        async for completed in iteration:
            assert completed.result.text == "1"
            break
        if close:
            await iteration.aclose()
        del iteration
        for _ in range(5):
            await asyncio.sleep(0)
        assert asyncio.get_running_loop().time() == 1
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert client.state.slots.in_use == 0

    run(main())


def test_a_batch_runs_once():
    async def main():
        batch = AsyncMockLLM().generate_many(["a"])
        await batch
        with pytest.raises(RuntimeError, match="a batch runs once"):
            await batch

    run(main())


def test_a_call_of_a_long_batch_begins_when_it_is_its_turn():
    async def main():
        llm = AsyncMockLLM(latency=10.0, total_timeout=15.0, max_concurrency=1)
        results = await llm.generate_many(["a"] * 20)
        assert [result.latency for result in results] == [10] * 20

    run(main())


@pytest.mark.parametrize(
    ("requests", "settings", "error", "message"),
    [
        ("Hello", {}, TypeError, "generate_many takes several requests"),
        (LLMRequest(prompt="Hello"), {}, TypeError, "generate_many takes several requests"),
        (["a", 5], {}, TypeError, "a request must be an LLMRequest or a str, got int"),
        (5, {}, TypeError, "generate_many takes several requests, .* got a int"),
        (["a"], {"concurrency": 1.5}, TypeError, "concurrency must be of type int or None, got a float"),
        (["a"], {"concurrency": 0}, ValueError, "concurrency must be 1 or more, got 0"),
    ],
)
def test_wrong_requests_are_refused_before_anything_is_sent(requests, settings, error, message):
    log = EventLog()
    with MockLLM(observers=[log]) as llm, pytest.raises(error, match=message):
        llm.generate_many(requests, **settings)
    assert not log.calls


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_what_ends_the_program_ends_the_batch_too(stop):
    class Stops:
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            if request.prompt == "stop":
                raise stop
            await asyncio.sleep(3600.0)
            return Answer("too late")

    log = EventLog()
    client = AsyncClient(Stops(), ClientPolicy(attempt_timeout=None, total_timeout=None), observers=[log])

    async def main():
        return await client.generate_many(["wait", "stop", "wait"], concurrency=2)

    loop = asyncio.new_event_loop()
    batch = loop.create_task(main())
    with pytest.raises(stop):  # out of the loop, as asyncio has it
        loop.run_until_complete(batch)
    with pytest.raises(stop):  # and out of the batch, where the loop goes on
        loop.run_until_complete(batch)
    loop.close()
    assert sorted(event.fate for event in log.calls) == [Fate.CANCELLED, Fate.CRASHED]


def test_a_batch_of_nothing_has_no_latency_to_show():
    page = Results()._repr_html_()
    assert "0 results" in page
    assert "latency" not in page
