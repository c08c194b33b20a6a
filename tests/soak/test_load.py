"""Much, for long: all is accounted for, and neither memory nor descriptors grow. `pytest -m soak -s` says figures."""

import asyncio
import contextlib
import gc
import json
import re
import resource
import subprocess
import sys
import time
import tracemalloc
from collections import Counter
from pathlib import Path

import httpx
import pytest

from llmlab import (
    AsyncClient,
    AsyncLocalLLM,
    Backoff,
    ClientPolicy,
    ClosedLoop,
    EventLog,
    Experiment,
    FaultKind,
    MockBackend,
    RetryPolicy,
    Timeouts,
    virtual_time,
)
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS

pytestmark = [pytest.mark.soak, pytest.mark.timeout(900)]

CALLS, IN_FLIGHT = 10_000, 64
SHARE = 0.2
# Faults whose client waits for a timeout, or is sent 16 MiB, are a tenth as frequent as the others.
SLOW = {FaultKind.TIMEOUT, FaultKind.CONNECT_STALL, FaultKind.STALL, FaultKind.HUGE_LINE, FaultKind.SLOW_DRIP}


def weather():
    """Return faults of all kinds that befall a fifth of the attempts."""
    weights = {kind: 0.1 if kind in SLOW else 1.0 for kind in FaultKind}
    unit = SHARE / sum(weights.values())
    return {f"{kind}_probability": weight * unit for kind, weight in weights.items()}


class Counts:
    """An observer that keeps counts only, so that what grows is not its own."""

    def __init__(self):
        self.attempts, self.calls, self.reasons = Counter(), Counter(), Counter()

    def on_attempt(self, event):
        self.attempts[event.reason] += 1

    def on_call(self, event):
        self.calls[event.fate] += 1
        self.reasons[event.reason] += event.attempts


def resident_mib(process="self"):
    """Return how much memory a process has now; where the system does not say, how much this one had at most."""
    status = Path(f"/proc/{process}/status")
    if status.exists():
        return next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmRSS")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def descriptors(process="self"):
    """Return how many descriptors a process has open; 0 where the system does not say."""
    folder = Path(f"/proc/{process}/fd")
    return sum(1 for _ in folder.iterdir()) if folder.exists() else 0


@pytest.fixture
def server(tmp_path):
    """A fault server in a process of its own, so that its memory is not ours: the process, and its address."""
    settings = {"kind": "mock", "latency": 0.002, "seed": 5, **weather()}
    file = tmp_path / "weather.json"
    file.write_text(json.dumps(settings))
    command = [sys.executable, "-m", "llmlab", "serve", "--backend", str(file), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process.pid, re.search(r"http://\S+:\d+", process.stdout.readline())[0]
        process.kill()


def state_of(url):
    """Return what the fault server says of itself, when nothing is under way there any more."""
    for _ in range(100):
        state = httpx.get(f"{url}/__llmlab__/state", trust_env=False).json()
        if state["requests"]["in_flight"] == 0 and state["connections"]["open"] <= 1:  # ours
            break
        time.sleep(0.1)
    return state


def test_ten_thousand_calls_over_loopback_with_a_fifth_faults_are_all_accounted_for(server):
    process, url = server
    counts, samples = Counts(), []
    policy = ClientPolicy(
        retry=RetryPolicy(max_retries=2, backoff=Backoff(base=0.01, maximum=0.05)),
        timeouts=Timeouts(connect=0.5, first_byte=0.5, between_chunks=0.5),
        attempt_timeout=2.0,
        max_concurrency=IN_FLIGHT,
    )

    async def load():
        results = Counter()
        async with AsyncLocalLLM(base_url=url, model="m", policy=policy, observers=[counts]) as llm:
            for _ in range(10):  # parts, so that there is something to compare
                prompts = ["Hello, how are you?"] * (CALLS // 10)
                async for _, _, result in llm.generate_many(prompts, concurrency=IN_FLIGHT):
                    results["answered" if result.ok else result.reason] += 1
                gc.collect()
                samples.append((resident_mib(), descriptors(), len(asyncio.all_tasks()), descriptors(process)))
        return results

    before, server_before = descriptors(), descriptors(process)
    began = time.perf_counter(), time.process_time()
    results = asyncio.run(load())
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    state = state_of(url)

    attempts = sum(counts.attempts.values())
    assert results.total() == counts.calls.total() == CALLS
    assert attempts == sum(counts.reasons.values()), "the calls had as many attempts as there were"
    assert counts.calls["answered"] == results["answered"]
    met = Counter()
    for row in state["requests"]["counts"]:
        met[row["fault"]] += row["requests"]
    assert state["requests"]["in_flight"] == 0
    assert met.total() == state["requests"]["total"]
    faults = 1 - met[None] / met.total()
    assert 0.9 * SHARE < faults < 1.1 * SHARE
    assert set(met) == {None, *FaultKind}, "every fault befell somebody"
    # An attempt is one request, but for those that were given up before the server had read them.
    assert 0 <= attempts - met.total() <= attempts // 100
    assert descriptors() == before
    assert descriptors(process) <= server_before + 1  # the connection that asked for its state
    memory, files, tasks, server_files = zip(*samples, strict=True)
    assert max(memory[5:]) < max(memory[:5]) + 20, f"MiB after each tenth: {[round(one) for one in memory]}"
    assert max(files) <= before + 2 * IN_FLIGHT
    assert max(server_files) <= server_before + 2 * IN_FLIGHT
    assert max(tasks) < 20
    print(
        f"\n{CALLS:,} calls, {IN_FLIGHT} in flight, {attempts:,} attempts, {faults:.1%} of them with one of "
        f"{len(met) - 1} faults; {results['answered']:,} answered; {wall:.0f} s, {cpu:.0f} s of CPU time in the "
        f"client; its memory {memory[0]:.0f} MiB after a tenth, {memory[-1]:.0f} MiB at the end; its descriptors "
        f"{before} before, at most {max(files)} at the ends of tenths, {descriptors()} after; the server has "
        f"{resident_mib(process):.0f} MiB"
    )


def test_a_million_simulated_calls_take_the_same_memory_for_each_event():
    log, samples, calls = EventLog(), [], 1_000_000
    began = time.perf_counter()

    async def load():
        backend = MockBackend(overload_probability=0.1, seed=1)
        policy = ClientPolicy(retry=RetryPolicy(max_retries=2))
        async with AsyncClient(backend, policy, observers=[log], seed=1) as client:
            flow = client.flow()
            for part in range(10):
                workload = ClosedLoop(calls=calls // 10, users=100)
                await workload.run(flow, seed=part)
                gc.collect()
                samples.append((len(log), len(log.call_table), resident_mib()))

    resident_before = resident_mib()
    virtual_time.run(load())
    wall = time.perf_counter() - began
    events = [attempts + made for attempts, made, _ in samples]
    assert samples[-1][1] == calls
    assert samples[-1][0] > calls
    # What a column takes is what its type takes: an event costs the same at the end as at the beginning.
    growth = [(samples[i][2] - samples[0][2]) * 2**20 / (events[i] - events[0]) for i in (5, 9)]
    bound = 8 * max(len(ATTEMPT_COLUMNS), len(CALL_COLUMNS))
    assert all(each < 1.5 * bound for each in growth), f"bytes for each event {growth}, all columns in 64 bits {bound}"
    assert growth[1] < growth[0] * 1.25 + 10
    print(
        f"\n{calls:,} simulated calls, {samples[-1][0]:,} attempts: {wall:.0f} s; {growth[1]:.0f} bytes an event, "
        f"{growth[0]:.0f} half-way; {resident_before:.0f} MiB before, {samples[-1][2]:.0f} MiB at the end, log included"
    )


def test_a_million_simulated_calls_that_nobody_keeps_leave_nothing_behind():
    counts, samples, calls = Counts(), [], 1_000_000

    async def load():
        async with AsyncClient(MockBackend(overload_probability=0.1), observers=[counts]) as client:
            for part in range(10):
                await ClosedLoop(calls=calls // 10, users=100).run(client.flow(), seed=part)
                gc.collect()
                samples.append(resident_mib())

    virtual_time.run(load())
    assert counts.calls.total() == calls
    assert samples[-1] < samples[0] + 20, f"MiB after each tenth: {[round(one) for one in samples]}"
    print(f"\n{calls:,} simulated calls, no log: {samples[0]:.0f} MiB after a tenth, {samples[-1]:.0f} MiB at the end")


def test_a_hundred_experiments_one_after_another_leave_nothing_behind():
    experiment = Experiment(backend=MockBackend(overload_probability=0.2), workload=ClosedLoop(calls=500, users=10))
    for _ in range(5):
        experiment.record()
    gc.collect()
    tracemalloc.start()
    with contextlib.closing(_Stopping()):
        first = tracemalloc.get_traced_memory()[0]
        for _ in range(100):
            experiment.record()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - first
    assert grown < 200_000, f"{grown} bytes"
    print(f"\n100 experiments of 500 calls: {grown / 1024:.0f} KiB more than before")


class _Stopping:
    def close(self):
        tracemalloc.stop()
