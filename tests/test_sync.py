"""The sync client: threads, notebooks, Ctrl-C, forks. What really waits, waits a few tens of milliseconds."""

import asyncio
import contextvars
import os
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from llmlab import (
    Answer,
    AsyncMockLLM,
    AttemptFailure,
    Backoff,
    Client,
    ClientPolicy,
    EventLog,
    FailureReason,
    Fate,
    MockBackend,
    MockLLM,
    RateLimit,
    RetryPolicy,
)
from llmlab.virtual_time import run

ROOT = Path(__file__).parents[1]


class Slow:
    """A backend of the outside world, as far as anyone can tell: no `simulated`."""

    def __init__(self, latency=0.01):
        self.latency, self.inside, self.most, self.threads = latency, 0, 0, set()

    async def attempt(self, request, *, timeouts, key):
        self.threads.add(threading.current_thread().name)
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            await asyncio.sleep(self.latency)
        finally:
            self.inside -= 1
        return Answer(request.prompt)


def in_threads(count, work):
    with ThreadPoolExecutor(count) as pool:
        return [future.result(timeout=20) for future in [pool.submit(work, number) for number in range(count)]]


@pytest.mark.parametrize(
    "client",
    [
        MockLLM,
        lambda: MockLLM(latency=0.001, real_time=True),
        lambda: Client(Slow(0.001)),
    ],
    ids=["virtual", "simulated in real time", "real"],
)
class TestEveryKind:
    def test_it_answers_here_and_in_a_running_loop_and_in_threads(self, client):
        async def cell():
            return client().generate("in a cell")

        with client() as llm:
            assert llm.generate("here").ok
            assert asyncio.run(cell()).ok
            assert run(cell()).ok
            assert all(result.ok for result in in_threads(4, lambda number: llm.generate(f"thread {number}")))
            assert len({result.call for result in in_threads(4, lambda _: llm.generate("a"))}) == 4

    def test_many_come_back_in_order(self, client):
        with client() as llm:
            assert [result.call for result in llm.generate_many(["a", "b", "c"], concurrency=1)] == [0, 1, 2]

    def test_wrong_arguments_are_errors_in_the_calling_thread(self, client):
        with client() as llm:
            with pytest.raises(TypeError, match="a request must be"):
                llm.generate(5)
            with pytest.raises(TypeError, match="a request must be"):
                llm.generate_many([5])
            assert llm.generate("and it goes on").ok

    def test_closing_twice_is_allowed(self, client):
        llm = client()
        llm.generate("a")
        llm.close()
        llm.close()

    def test_it_says_what_it_is(self, client):
        with client() as llm:
            assert repr(llm).startswith(type(llm).__name__ + "(")
            assert llm.policy == ClientPolicy()
            assert llm.state.calls_in_progress == 0


def test_a_closed_simulated_client_says_why_it_does_not_go_on():
    llm = MockLLM()
    llm.close()
    with pytest.raises(RuntimeError, match="this client is closed"):
        llm.generate("a")


def test_virtual_time_goes_on_from_call_to_call():
    log = EventLog()
    with MockLLM(latency=1.0, observers=[log], rate_limit=RateLimit(requests=1, per=10)) as llm:
        began = time.perf_counter()
        for _ in range(100):
            assert llm.generate("a").ok
        assert time.perf_counter() - began < 60, "a quarter of an hour of virtual time"
    assert [event.started_at_s for event in log.attempts][:3] == [0, 10, 20]


def test_limits_hold_across_threads():
    backend = Slow()
    with Client(backend, ClientPolicy(max_concurrency=2)) as client:
        assert all(result.ok for result in in_threads(6, lambda number: client.generate(str(number))))
        assert client.state.slots.in_use == 0
    assert backend.most == 2
    assert backend.threads == {"llmlab-loop"}


def test_all_clients_share_one_loop_thread_and_so_can_share_limits():
    backend = Slow()
    one = Client(backend, ClientPolicy(max_concurrency=1))
    other = Client(backend, state=one.state)
    in_threads(4, lambda number: (one, other)[number % 2].generate("a"))
    assert backend.most == 1


def test_a_deadline_is_true_even_where_the_backend_never_answers():
    with Client(Slow(3600), ClientPolicy(total_timeout=0.02)) as client:
        assert client.generate("a").reason is FailureReason.TOTAL_DEADLINE_EXCEEDED


def test_the_context_of_the_caller_is_seen_by_the_backend():
    user = contextvars.ContextVar("user")

    class Personal:
        async def attempt(self, request, *, timeouts, key):
            return Answer(f"Hello {user.get()}")

    user.set("Ada")
    assert Client(Personal()).generate("a").text == "Hello Ada"
    with MockLLM(text=lambda request: f"Hello {user.get()}") as llm:
        assert llm.generate("a").text == "Hello Ada"


@pytest.mark.parametrize("settings", [{}, {"real_time": True, "latency": 0.001}])
def test_a_call_from_inside_its_own_loop_is_refused_and_not_left_hanging(settings):
    inner = []

    def text(request):
        with pytest.raises(RuntimeError, match="called from inside its own event loop") as caught:
            llm.generate("inner")
        inner.append(caught.value)
        return "outer"

    with MockLLM(text=text, **settings) as llm:
        assert llm.generate("a").text == "outer"
    assert len(inner) == 1


def test_another_simulated_client_may_be_used_inside_a_call():
    with MockLLM() as inner, MockLLM(text=lambda request: inner.generate("b").text + "!") as outer:
        assert outer.generate("a").text == "This is a simulated answer.!"


@pytest.mark.parametrize("bug", [ZeroDivisionError("a bug"), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_backend_raises_reaches_the_caller_and_the_next_call_works(bug):
    class Buggy:
        async def attempt(self, request, *, timeouts, key):
            if request.prompt == "bug":
                raise bug
            return Answer("ok")

    client = Client(Buggy())
    for _ in range(2):
        with pytest.raises(type(bug)):
            client.generate("bug")
        with pytest.raises(type(bug)):
            client.generate_many(["bug", "a", "a"], concurrency=1)
        assert client.generate("a").ok


def test_a_client_that_is_dropped_without_closing_complains_of_nothing():
    code = "from llmlab import MockLLM; print(MockLLM().generate('Hello').text); MockLLM(real_time=True).close()"
    assert python(code).stdout == "This is a simulated answer.\n"


def python(code, *arguments):
    """Run code in a fresh interpreter in which every warning is an error."""
    # Not -X dev: asyncio's debug mode writes to stderr when a busy machine makes a callback slow.
    command = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning"]
    done = subprocess.run(
        [*command, "-c", textwrap.dedent(code), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


INTERRUPTED = """
    import asyncio, signal, sys, threading, time
    from llmlab import Client, ClientPolicy, EventLog

    class Slow:
        async def attempt(self, request, *, timeouts, key):
            begun.set()
            try:
                await asyncio.sleep(3600)
            finally:
                print("closed")

    class SlowAndSimulated(Slow):
        simulated = True

        async def attempt(self, request, *, timeouts, key):
            begun.set()
            try:
                while True:
                    await asyncio.sleep(0.001)
            finally:
                print("closed")

    def interrupt():
        begun.wait()
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    def work():
        try:
            client.generate("Hello") if sys.argv[3] == "generate" else list(client.stream("Hello"))
        except KeyboardInterrupt:
            print("interrupted")

    async def cell():
        work()

    if __name__ == "__main__":
        begun, log = threading.Event(), EventLog()
        backend = SlowAndSimulated() if sys.argv[1] == "virtual" else Slow()
        policy = ClientPolicy(max_concurrency=1, attempt_timeout=None, total_timeout=None)
        client = Client(backend, policy, observers=[log])
        signal.signal(signal.SIGINT, signal.default_int_handler)
        killer = threading.Thread(target=interrupt)
        killer.start()
        if sys.argv[2] == "notebook":
            loop = asyncio.new_event_loop()  # as in Jupyter: a loop runs that has no signal handler of its own
            loop.run_until_complete(cell())
            loop.close()
        else:
            work()
        killer.join()
        (call,) = log.calls
        print(call.fate, log.attempts[-1].reason, client.state.slots.in_use, client.state.calls_in_progress)
        client.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="signals to a thread are a POSIX thing")
@pytest.mark.parametrize(
    ("kind", "place", "ask"),
    [
        ("real", "script", "generate"),
        ("real", "notebook", "generate"),
        ("virtual", "script", "generate"),
        ("virtual", "notebook", "generate"),
        ("real", "script", "stream"),
    ],
)
def test_ctrl_c_closes_the_attempt_records_it_as_cancelled_and_gives_the_slot_back(kind, place, ask):
    done = python(INTERRUPTED, kind, place, ask)
    assert done.stdout.split("\n") == ["closed", "interrupted", "cancelled cancelled 0 0", ""]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_loop_thread_of_its_own():
    done = python("""
        import asyncio, os, threading
        from llmlab import Answer, Client, ClientPolicy

        class Echo:
            async def attempt(self, request, *, timeouts, key):
                begun.set()
                while request.prompt == "slow" and not over.is_set():
                    await asyncio.sleep(0.001)
                return Answer("ok")

        begun, over = threading.Event(), threading.Event()
        client = Client(Echo(), ClientPolicy(max_concurrency=1))
        thread = threading.Thread(target=client.generate, args=("slow",))
        thread.start()
        begun.wait()
        child = os.fork()
        if child == 0:
            os._exit(0 if client.generate("a").ok else 1)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        over.set()
        thread.join()
        print(code, client.generate("a").ok)
    """)
    assert done.stdout == "0 True\n"


# ---- conformance: the same scenario, sync and async, in real and in virtual time

SCRIPT = [
    AttemptFailure(FailureReason.RATE_LIMITED, "slow down", 429, retry_after=0.002),
    AttemptFailure(FailureReason.OVERLOADED, "busy", 503),
    "timeout",
    "empty",
]
SCENARIOS = {
    "answered at last": ({"script": SCRIPT, "max_retries": 4}, "Hello"),
    "exhausted": ({"script": SCRIPT, "max_retries": 2}, "Hello"),
    "not retryable": ({"script": [AttemptFailure(FailureReason.MODEL_NOT_FOUND, "no such model", 404)]}, "Hello"),
    "blank": ({}, " "),
    "deadline": ({"script": [SCRIPT[0]._replace(retry_after=500.0)]}, "Hello"),
    "queue full": ({"max_concurrency": 1, "max_queue": 0}, ["a", "b"]),
}


def decisions(log, results):
    return (
        [(result.ok, result.attempts, getattr(result, "reason", None), result.call) for result in results],
        sorted(
            (event.call, event.attempt, event.reason, event.status_code, event.backoff_source) for event in log.attempts
        ),
        sorted((event.call, event.fate, event.reason, event.last_reason, event.attempts) for event in log.calls),
    )


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_sync_and_async_real_and_virtual_decide_the_same(scenario):
    settings, request = SCENARIOS[scenario]
    settings = {
        "latency": 0.001,
        "refusal_latency": 0.0,
        "attempt_timeout": 0.25,
        "total_timeout": 20.0,
        "backoff": Backoff(base=0.001),
        **settings,
    }
    requests = [request] if isinstance(request, str) else request

    def sync(real_time):
        log = EventLog()
        with MockLLM(observers=[log], real_time=real_time, **settings) as llm:
            return decisions(log, llm.generate_many(requests, concurrency=2))

    def asynchronous(runner):
        log = EventLog()

        async def main():
            async with AsyncMockLLM(observers=[log], **settings) as llm:
                return await llm.generate_many(requests, concurrency=2)

        return decisions(log, runner(main()))

    expected = sync(real_time=False)
    assert sync(real_time=True) == expected
    assert asynchronous(run) == expected
    assert asynchronous(asyncio.run) == expected
    assert Fate.CRASHED not in str(expected)


def test_a_policy_object_and_plain_keywords_are_the_same():
    policy = ClientPolicy(retry=RetryPolicy(max_retries=4), attempt_timeout=3)
    with MockLLM(max_retries=4, attempt_timeout=3) as one, Client(MockBackend(), policy, seed=0) as other:
        assert one.policy == other.policy
        assert one.generate("a") == other.generate("a")
