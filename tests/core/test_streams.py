"""Streamed calls, under virtual time: what is handed out and retried, who waits for whom, and what is left over."""

import asyncio
import gc
import inspect
import textwrap

import pytest

from llmlab import (
    AdaptiveThrottle,
    Answer,
    AsyncClient,
    AsyncLLMStream,
    AsyncMockLLM,
    AttemptFailure,
    Backoff,
    CircuitBreaker,
    Client,
    ClientPolicy,
    EventLog,
    FailureReason,
    Fallback,
    Fate,
    Hedging,
    Layer,
    LLMRequest,
    LLMStream,
    MockBackend,
    MockLLM,
    RateLimit,
    RetryBudget,
    RetryPolicy,
    Timeouts,
)
from llmlab.backends.faults import FaultKind
from llmlab.core.streams import StreamedAttempt
from llmlab.virtual_time import run

R = FailureReason
TEXT = "This is a simulated answer."
BROKEN = AttemptFailure(R.CONNECTION_LOST, "the connection broke")


class Told:
    """A backend that tells each attempt's story: seconds to wait, pieces of text, and at last the outcome."""

    simulated = True

    def __init__(self, *stories):
        self.stories, self.closed, self.begun = stories, 0, 0

    async def attempt(self, request, *, timeouts, key):
        raise AssertionError("a streamed call asks for a stream")

    def stream(self, request, *, timeouts, key):
        return StreamedAttempt(self.steps(self.stories[key.attempt - 1]))

    async def steps(self, story):
        self.begun += 1
        try:
            for step in story:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, Exception):
                    raise step
                else:
                    yield step
        finally:
            self.closed += 1


class Silent:
    """A backend that never answers."""

    simulated = True

    async def attempt(self, request, *, timeouts, key):
        await asyncio.get_running_loop().create_future()


def read(llm, request="Hello"):
    """Read one stream to its end on virtual time; return its pieces with their times, and its result."""

    async def main():
        loop = asyncio.get_running_loop()
        async with llm.stream(request) as stream:
            came = [(loop.time(), piece) async for piece in stream]
        return came, stream.result

    return run(main())


def texts(came):
    return [piece for _, piece in came]


# ---- the same call


@pytest.mark.parametrize("late", [0.0, 1000.0])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"max_concurrency": 1, "max_queue_wait": 2.0},
        {"rate_limit": RateLimit(requests=2, per=10.0)},
        {"policy": ClientPolicy(breaker=CircuitBreaker(), budget=RetryBudget(), throttle=AdaptiveThrottle())},
        {"script": ["overload", "timeout"], "attempt_timeout": 3.0},
        {"script": ["connect_stall", "rate_limit"], "timeouts": Timeouts(connect=1.0)},
    ],
    ids=lambda settings: "-".join(settings) or "plain",
)
def test_the_events_of_a_streamed_call_are_those_of_a_call_that_waits_for_the_whole(settings, late):
    assert events(settings, streamed(late)) == events(settings, lambda llm, prompt: llm.generate(prompt))


@pytest.mark.parametrize("fault", FaultKind)
def test_for_a_reader_who_comes_late_every_failure_is_retried_as_without_a_stream(fault):
    settings = {f"{fault}_probability": 0.5, "attempt_timeout": 2.0, "timeouts": Timeouts(between_chunks=0.2)}
    assert events(settings, streamed(1000.0)) == events(settings, lambda llm, prompt: llm.generate(prompt))


def events(settings, ask):
    """Make six calls at once and return their results and events, as texts, in which NaN is NaN."""
    log = EventLog()

    async def main():
        llm = AsyncMockLLM(observers=[log], seed=3, **settings)
        return await asyncio.gather(*(ask(llm, f"Number {n}") for n in range(6)))

    return run(main()), str(log.attempts), str(log.calls)


def streamed(late):
    """Return how to make a call whose reader comes so many seconds late."""

    async def ask(llm, prompt):
        async with llm.stream(prompt) as stream:
            await asyncio.sleep(late)
            text = "".join([piece async for piece in stream])
        assert text == (stream.result.text if stream.result.ok else "")
        return stream.result

    return ask


def test_pieces_come_a_token_at_a_time_and_evenly():
    came, result = read(AsyncMockLLM(latency=4.0, first_token_share=0.25))
    assert texts(came) == ["This", " is ", "a si", "mula", "ted ", "answ", "er."]
    assert [at for at, _ in came] == pytest.approx([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0])
    assert (result.text, result.latency, result.time_to_first_token) == (TEXT, 4.0, 1.0)


def test_a_backend_that_cannot_stream_gives_its_whole_text_as_one_piece():
    class Echo:
        async def attempt(self, request, *, timeouts, key):
            return Answer(f"You said: {request.prompt}")

    came, result = read(AsyncClient(Echo()))
    assert texts(came) == [result.text] == ["You said: Hello"]


def test_an_attempt_of_ones_own_is_not_passed_over_by_a_stream_that_was_inherited():
    class Own(MockBackend):
        async def attempt(self, request, *, timeouts, key):
            return Answer("mine")

        def session(self):
            return self

    assert texts(read(AsyncClient(Own()))[0]) == ["mine"]


def test_a_refused_prompt_sends_nothing_and_is_a_call():
    log = EventLog()
    came, result = read(AsyncMockLLM(observers=[log]), " ")
    assert (came, result.reason, len(log.calls)) == ([], R.EMPTY_PROMPT, 1)


# ---- failures


def test_a_failure_before_the_first_piece_is_tried_again():
    llm = AsyncClient(Told([1.0, BROKEN], [1.0, "Hi ", 1.0, "you", Answer("Hi you")]))
    came, result = read(llm)
    assert texts(came) == ["Hi ", "you"]
    assert (result.text, result.attempts) == ("Hi you", 2)


def test_a_failure_after_the_first_piece_ends_the_call_and_tells_what_was_handed_out():
    log = EventLog()
    told = Told([1.0, "Hi ", 1.0, BROKEN], [Answer("another story")])
    came, result = read(AsyncClient(told, observers=[log]))
    assert texts(came) == ["Hi "]
    assert (result.reason, result.fate, result.retryable) == (R.CONNECTION_LOST, Fate.NOT_RETRYABLE, True)
    assert (result.partial_text, result.attempts, told.begun) == ("Hi ", 1, 1)
    assert "not tried again, because text of this answer had been handed out" in result.message
    assert [call.fate for call in log.calls] == [Fate.NOT_RETRYABLE]


def test_no_repr_shows_the_text_that_was_handed_out():
    _, result = read(AsyncClient(Told([1.0, "secret", 1.0, BROKEN])))
    assert "secret" not in repr(result)
    assert "secret" not in result._repr_html_()
    assert "6 characters" in result._repr_html_()


def test_text_that_nobody_took_is_dropped_with_its_failed_attempt():
    """A reader who comes late meets one story, the whole of the second attempt."""

    async def main():
        llm = AsyncClient(Told(["Lost", 1.0, BROKEN], ["Kept", Answer("Kept")]))
        async with llm.stream("Hello") as stream:
            await asyncio.sleep(60.0)
            return [piece async for piece in stream], stream.result

    pieces, result = run(main())
    assert (pieces, result.text, result.attempts) == (["Kept"], "Kept", 2)


@pytest.mark.parametrize(
    ("story", "request_", "reason"),
    [
        (["  ", 1.0, Answer("  ")], "Hello", R.EMPTY_OUTPUT),
        (['{"a', 1.0, Answer('{"a')], LLMRequest(prompt="Hello", response_format="json"), R.MALFORMED_OUTPUT),
    ],
)
def test_what_the_whole_text_lacks_is_known_at_the_end_and_not_tried_again(story, request_, reason):
    came, result = read(AsyncClient(Told(story)), request_)
    assert (result.reason, result.fate) == (reason, Fate.NOT_RETRYABLE)
    assert result.partial_text == texts(came)[0]


def test_a_bug_in_the_backend_is_raised_where_the_next_piece_is_asked_for():
    async def main():
        log = EventLog()
        llm = AsyncClient(Told([1.0, "Hi", 1.0, ZeroDivisionError("a bug")]), observers=[log])
        stream = llm.stream("Hello")
        assert await anext(stream) == "Hi"
        with pytest.raises(ZeroDivisionError, match="a bug"):
            await anext(stream)
        assert [call.fate for call in log.calls] == [Fate.CRASHED]
        with pytest.raises(RuntimeError, match="the backend raised an exception"):
            _ = stream.result

    run(main())


def test_a_bug_met_by_nobody_is_raised_by_leaving():
    async def main():
        stream = AsyncClient(Told([ZeroDivisionError("a bug")])).stream("Hello")
        with pytest.raises(ZeroDivisionError):
            async with stream:
                await asyncio.sleep(1.0)

    run(main())


# ---- time


def test_a_server_that_stalls_between_pieces_is_given_up():
    came, result = read(AsyncMockLLM(script=["stall"], timeouts=Timeouts(between_chunks=2.0), latency=1.0))
    assert (len(came), result.reason, result.partial_text) == (1, R.ATTEMPT_TIMEOUT, "This")
    assert "stood still for 2.0 s" in result.message


def test_the_attempts_time_bounds_the_whole_answer():
    _, result = read(AsyncMockLLM(latency=10.0, first_token_share=0.1, attempt_timeout=5.0))
    assert (result.reason, result.fate, result.latency) == (R.ATTEMPT_TIMEOUT, Fate.NOT_RETRYABLE, 5.0)
    assert TEXT.startswith(result.partial_text)


def test_the_calls_deadline_holds_while_the_reader_does_something_else():
    async def main():
        log = EventLog()
        llm = AsyncMockLLM(latency=10.0, total_timeout=3.0, max_concurrency=1, observers=[log])
        async with llm.stream("Hello") as stream:
            first = await anext(stream)
            await asyncio.sleep(60.0)
            assert llm.state.slots.in_use == 0
            rest = [piece async for piece in stream]
        assert first + "".join(rest) == stream.result.partial_text == stream.text
        assert TEXT.startswith(stream.text)
        assert (stream.result.reason, stream.result.fate) == (R.TOTAL_DEADLINE_EXCEEDED, Fate.DEADLINE)
        assert log.calls[0].ended_at_s == 3.0

    run(main())


def test_a_slow_reader_is_no_stalling_server_and_holds_no_slot():
    async def main():
        llm = AsyncMockLLM(latency=4.0, timeouts=Timeouts(between_chunks=1.0), max_concurrency=1)
        async with llm.stream("Hello") as stream:
            pieces = []
            async for piece in stream:
                await asyncio.sleep(50.0)
                assert llm.state.slots.in_use == 0
                pieces.append(piece)
        assert "".join(pieces) == TEXT
        assert stream.result.latency == 4.0

    run(main())


# ---- leaving early


async def left(llm, leave):
    """Begin a stream, take one piece, leave it in some way; return it."""
    stream = llm.stream("Hello")
    await leave(stream)
    return stream


async def by_break(stream):
    async with stream:
        async for _ in stream:
            break


async def by_closing(stream):
    await anext(stream)
    await stream.aclose()
    await stream.aclose()


async def by_an_exception(stream):
    async def fails():
        async with stream:
            await anext(stream)
            raise LookupError

    with pytest.raises(LookupError):
        await fails()


async def by_cancellation(stream):
    task = asyncio.create_task(reads(stream))
    await asyncio.sleep(2.0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_a_timeout(stream):
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reads(stream), 2.0)


async def reads(stream):
    async for _ in stream:
        pass


LEAVING = [by_break, by_closing, by_an_exception, by_cancellation, by_a_timeout]


@pytest.mark.parametrize("leave", LEAVING)
def test_leaving_early_closes_the_connection_frees_the_slot_and_is_recorded(leave):
    async def main():
        told, log = Told([1.0, "Hi ", 5.0, Answer("Hi you")]), EventLog()
        llm = AsyncClient(told, ClientPolicy(max_concurrency=1), observers=[log])
        stream = await left(llm, leave)
        assert (told.begun, told.closed, llm.state.slots.in_use, llm.state.calls_in_progress) == (1, 1, 0, 0)
        assert [attempt.reason for attempt in log.attempts] == [R.CANCELLED]
        assert [(call.fate, call.attempts) for call in log.calls] == [(Fate.CANCELLED, 1)]
        assert (stream.result.reason, stream.result.partial_text) == (R.CANCELLED, "Hi ")
        assert [piece async for piece in stream] == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


@pytest.mark.parametrize("leave", LEAVING)
def test_leaving_while_waiting_for_a_slot_gives_up_the_place_in_the_queue(leave):
    async def main():
        llm = AsyncClient(Told([0.5, "Hi", 5.0, Answer("Hi")]), ClientPolicy(max_concurrency=1))
        async with AsyncClient(Silent(), ClientPolicy(total_timeout=None), state=llm.state).stream("Hello") as holder:
            await asyncio.sleep(0.1)
            waiting = llm.stream("Hello")
            async with waiting:
                await asyncio.sleep(0.1)
                assert len(llm.state.slots.waiting) == 1
            assert not llm.state.slots.waiting
        assert waiting.result.fate is holder.result.fate is Fate.CANCELLED

    run(main())


def test_a_stream_that_is_dropped_is_ended_by_the_garbage_collector_with_a_warning():
    async def main():
        told, log = Told([1.0, "Hi ", 5.0, Answer("Hi you")]), EventLog()
        llm = AsyncClient(told, ClientPolicy(max_concurrency=1), observers=[log])
        stream = llm.stream("Hello")
        await anext(stream)
        with pytest.warns(ResourceWarning, match="dropped before its end; use it in a `with` block"):
            del stream
        await asyncio.sleep(0.1)
        assert (told.closed, llm.state.slots.in_use) == (1, 0)
        assert [call.fate for call in log.calls] == [Fate.CANCELLED]

    run(main())


def test_a_stream_read_to_its_end_needs_no_block_and_holds_nothing():
    async def main():
        llm = AsyncMockLLM(max_concurrency=1)
        stream = llm.stream("Hello")
        assert "".join([piece async for piece in stream]) == TEXT
        assert stream.result.ok
        assert llm.state.slots.in_use == 0

    run(main())


def test_what_was_complete_when_the_reader_left_stays_answered():
    async def main():
        async with AsyncMockLLM(latency=1.0).stream("Hello") as stream:
            await asyncio.sleep(2.0)
        return stream

    stream = run(main())
    assert (stream.result.text, stream.text) == (TEXT, "")


def test_closing_the_client_ends_its_streams():
    async def main():
        llm = AsyncMockLLM(latency=10.0)
        stream = llm.stream("Hello")
        await anext(stream)
        await llm.aclose()
        rest = [piece async for piece in stream]
        assert (rest, stream.result.reason) == ([], R.CANCELLED)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


# ---- wrong use


def test_there_is_no_result_before_the_end_and_the_error_says_what_to_do():
    async def main():
        stream = AsyncMockLLM().stream("Hello")
        with pytest.raises(RuntimeError, match="iterate over it to the end, or close it"):
            _ = stream.result
        await stream.aclose()
        with pytest.raises(RuntimeError, match="closed before it began"):
            _ = stream.result

    run(main())


def test_a_stream_has_one_reader():
    async def main():
        async with AsyncMockLLM().stream("Hello") as stream:
            first = asyncio.create_task(anext(stream))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="a stream has one reader"):
                await anext(stream)
            assert await first == "This"

    run(main())


@pytest.mark.parametrize("llm", [AsyncMockLLM, MockLLM])
def test_what_is_no_request_is_refused_when_the_stream_is_asked_for(llm):
    with pytest.raises(TypeError, match="a request must be an LLMRequest or a str, got int"):
        llm().stream(3)


def test_the_repr_says_how_far_it_is_and_shows_no_text():
    async def main():
        stream = AsyncMockLLM().stream("Hello")
        states = [repr(stream)]
        await anext(stream)
        states.append(repr(stream))
        await stream.aclose()
        return [*states, repr(stream)]

    assert run(main()) == [
        "<AsyncLLMStream not begun, 0 characters handed out>",
        "<AsyncLLMStream open, 4 characters handed out>",
        "<AsyncLLMStream closed, 4 characters handed out>",
    ]


# ---- with others


def test_a_streamed_attempt_that_has_ended_has_nothing_more():
    async def main():
        attempt = StreamedAttempt(Told().steps([TEXT, Answer(TEXT)]))
        return [[piece async for piece in attempt] for _ in range(2)], attempt.outcome

    assert run(main()) == ([[TEXT], []], Answer(TEXT))


def test_a_stream_of_ones_own_that_ends_without_an_outcome_says_what_is_missing():
    async def main():
        with pytest.raises(TypeError, match="must yield an Answer or an AttemptFailure last"):
            async for _ in AsyncClient(Told([TEXT])).stream("Hello"):
                pass

    run(main())


def test_a_stream_is_not_hedged():
    log = EventLog()
    _, result = read(AsyncMockLLM(latency=4.0, policy=ClientPolicy(hedging=Hedging(delay=0.5)), observers=[log]))
    assert (result.ok, len(log.attempts)) == (True, 1)


def test_a_layer_streams_and_is_a_call_of_its_own_until_text_is_out():
    log = EventLog()
    inner = Layer(MockBackend(latency=4.0, script=["overload"]), ClientPolicy(retry=RetryPolicy(max_retries=1)))
    came, result = read(AsyncClient(inner, observers=[log]))
    assert (len(came), result.text) == (7, TEXT)
    assert [(call.layer, call.attempts, call.parent_call) for call in log.calls] == [("layer", 2, 0), ("client", 1, -1)]


@pytest.mark.parametrize("wrap", [Layer, AsyncClient])
def test_what_breaks_inside_a_layer_once_text_is_out_is_tried_again_by_nobody(wrap):
    told = Told([1.0, "Hi ", 1.0, BROKEN])
    came, result = read(AsyncClient(wrap(told)))
    assert (texts(came), result.reason, result.partial_text, told.begun) == (["Hi "], R.CONNECTION_LOST, "Hi ", 1)


def test_a_fallback_asks_the_next_only_before_the_first_piece():
    first, second = Told([1.0, BROKEN]), Told([1.0, "Hi", 1.0, Answer("Hi")])
    came, result = read(AsyncClient(Fallback([first, second])))
    assert (texts(came), result.text) == (["Hi"], "Hi")
    first, second = Told([1.0, "Ho", 1.0, BROKEN]), Told([1.0, "Hi", 1.0, Answer("Hi")])
    came, result = read(AsyncClient(Fallback([first, second])))
    assert (texts(came), result.reason, second.begun) == (["Ho"], R.CONNECTION_LOST, 0)


def test_leaving_a_stream_ends_the_calls_of_all_layers_inside():
    async def main():
        log, told = EventLog(), Told([1.0, "Hi ", 5.0, Answer("Hi you")])
        async with AsyncClient(Fallback([Layer(told)]), observers=[log]).stream("Hello") as stream:
            await anext(stream)
        assert told.closed == 1
        assert [(call.layer, call.fate) for call in log.calls] == [
            ("target1", Fate.CANCELLED),
            ("client", Fate.CANCELLED),
        ]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main())


# ---- sync


def test_a_sync_stream_is_an_iterator_with_a_result():
    with MockLLM(latency=4.0).stream("Hello") as stream:
        pieces = list(stream)
    assert isinstance(stream, LLMStream)
    assert "".join(pieces) == stream.result.text == stream.text == TEXT
    assert (len(pieces), stream.result.latency) == (7, 4.0)


def test_a_sync_stream_left_early_is_recorded_as_cancelled():
    log = EventLog()
    llm = MockLLM(latency=4.0, observers=[log], max_concurrency=1)
    with llm.stream("Hello") as stream:
        assert next(stream) == "This"
    assert (stream.result.reason, log.calls[0].fate) == (R.CANCELLED, Fate.CANCELLED)
    assert llm.state.slots.in_use == 0
    assert llm.generate("Hello").ok
    assert repr(stream) == "<LLMStream closed, 4 characters handed out>"


def test_other_calls_of_a_simulated_client_go_on_beside_its_open_stream():
    llm = MockLLM(latency=4.0)
    with llm.stream("Hello") as stream:
        first = next(stream)
        assert llm.generate("Another").ok
        assert first + "".join(stream) == TEXT


def test_a_sync_stream_in_real_time_runs_on_the_loop_thread():
    told = Told(["Hi ", 0.01, "you", Answer("Hi you")])
    with Client(told, real_time=True) as llm, llm.stream("Hello") as stream:
        assert list(stream) == ["Hi ", "you"]
    assert stream.result.text == "Hi you"


def test_a_sync_stream_outlives_its_closed_client_as_a_cancelled_one():
    llm = MockLLM(latency=4.0)
    stream = llm.stream("Hello")
    next(stream)
    llm.close()
    stream.close()
    assert stream.result.reason is R.CANCELLED


def test_a_sync_stream_works_inside_a_running_loop():
    async def cell():
        with MockLLM().stream("Hello") as stream:
            return "".join(stream)

    assert asyncio.run(cell()) == TEXT


def test_backoff_between_attempts_is_no_text():
    llm = AsyncMockLLM(latency=1.0, script=["overload"], backoff=Backoff(base=2.0, jitter="none"))
    came, result = read(llm)
    assert came[0][0] == pytest.approx(0.02 + 2.0 + 0.25)
    assert result.attempts == 2


def test_both_kinds_of_stream_have_a_name_to_annotate_with():
    assert isinstance(AsyncMockLLM().stream("Hello"), AsyncLLMStream)
    assert isinstance(MockLLM().stream("Hello"), LLMStream)


def examples(thing):
    """The code of a docstring: its first paragraph that is indented more than the rest."""
    paragraphs = inspect.getdoc(thing).split("\n\n")
    return textwrap.dedent(next(paragraph for paragraph in paragraphs if paragraph.startswith("    ")))


@pytest.mark.parametrize("thing", [AsyncLLMStream, AsyncClient.stream])
def test_the_example_in_the_docstring_runs(thing, capsys):
    code = "async def example(llm):\n" + textwrap.indent(examples(thing), "    ")
    names = {}
    exec(code, names)
    run(names["example"](AsyncMockLLM()))
    assert capsys.readouterr().out == f"{TEXT}True\n"


def test_the_example_in_the_sync_docstring_runs(capsys):
    exec(examples(Client.stream), {"llm": MockLLM()})
    assert capsys.readouterr().out == f"{TEXT}True\n"


def test_an_attempt_that_stands_in_the_object_itself_gives_its_text_as_one_piece():
    class Plain:
        simulated = True

        def __init__(self, outcome):
            async def attempt(request, *, timeouts, key):
                return outcome

            self.attempt = attempt

    came, result = read(AsyncClient(Plain(Answer("Hello"))))
    assert (texts(came), result.ok) == (["Hello"], True)
    came, result = read(AsyncClient(Plain(BROKEN), ClientPolicy(retry=RetryPolicy(max_retries=0))))
    assert (came, result.reason) == ([], R.CONNECTION_LOST)


def test_a_stream_that_was_inherited_alone_is_used():
    class Named(Told):
        name = "named"

    came, _ = read(AsyncClient(Named(["Hel", "lo", Answer("Hello")])))
    assert texts(came) == ["Hel", "lo"]


def test_a_stream_that_has_begun_does_not_begin_again_with_its_block():
    async def main():
        backend = Told(["Hel", "lo", Answer("Hello")])
        stream = AsyncClient(backend).stream("Hi")
        assert await stream.next_piece() == "Hel"
        async with stream:
            assert [piece async for piece in stream] == ["lo"]
        assert (backend.begun, stream.result.text) == (1, "Hello")

    run(main())


def test_a_stream_that_is_cancelled_while_it_begins_is_a_cancelled_call():
    log = EventLog()

    async def main():
        stream = AsyncClient(Silent(), observers=[log]).stream("Hi")
        entering = asyncio.create_task(stream.begin())
        await asyncio.sleep(0)
        entering.cancel()
        with pytest.raises(asyncio.CancelledError):
            await entering
        assert stream.result.reason is R.CANCELLED

    run(main())
    assert [event.fate for event in log.calls] == [Fate.CANCELLED]


def test_who_is_cancelled_while_closing_a_stream_leaves_none_under_way():
    log = EventLog()

    class PutsItselfAway(Silent):
        async def attempt(self, request, *, timeouts, key):
            try:
                await super().attempt(request, timeouts=timeouts, key=key)
            finally:
                await asyncio.sleep(5.0)

    async def main():
        stream = AsyncClient(PutsItselfAway(), observers=[log]).stream("Hi")
        await stream.begin()
        await asyncio.sleep(1.0)
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(1.0)
        assert not closing.done()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert not stream.is_under_way

    run(main())
    assert [event.fate for event in log.calls] == [Fate.CANCELLED]


def test_a_call_whose_loop_is_gone_ends_without_a_record_and_without_a_complaint():
    log = EventLog()
    loop = asyncio.new_event_loop()

    async def begun():
        stream = AsyncClient(Told(["Hel", 3600.0, Answer("Hello")]), observers=[log]).stream("Hi")
        assert await stream.next_piece() == "Hel"
        return [stream]

    held = loop.run_until_complete(begun())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.close()
    with pytest.warns(ResourceWarning, match="was dropped before its end"):
        held.clear()
    del loop
    gc.collect()
    assert log.calls == []


def test_an_empty_piece_is_no_piece():
    came, result = read(AsyncClient(Told(["Hel", "", "lo", Answer("Hello")])))
    assert (texts(came), result.text) == (["Hel", "lo"], "Hello")
