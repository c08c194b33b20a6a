"""The same program, the same trace: in every process, whatever the hash seed, on every Python."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import asyncio, hashlib, random
from llmlab.virtual_time import run

async def client(name, queue, draws, trace):
    loop = asyncio.get_running_loop()
    while True:
        job = await queue.get()
        try:
            async with asyncio.timeout(draws.expovariate(1)):
                await asyncio.sleep(draws.expovariate(1))
            trace.append((loop.time(), name, job, "done"))
        except TimeoutError:
            trace.append((loop.time(), name, job, "timed out"))
        except asyncio.CancelledError:
            trace.append((loop.time(), name, job, "cancelled"))
            raise

async def main(trace):
    draws, queue = random.Random(7), asyncio.Queue(3)
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(client(f"client {number}", queue, draws, trace), name=f"client {number}")
            for job in range(400):
                await queue.put(job)
                await asyncio.sleep(0.01)
            racers = {asyncio.create_task(asyncio.sleep(1, number)) for number in range(50)}
            done, _ = await asyncio.wait(racers)
            trace.extend((0.0, task.get_name(), task.result(), "raced") for task in done)
            raise KeyError
    except* KeyError:
        pass

traces = [], []
for trace in traces:
    run(main(trace))
assert traces[0] == traces[1]
print(len(traces[0]), hashlib.sha256(repr(traces[0]).encode()).hexdigest())
"""

# The number of steps, and their digest.
GOLDEN = "450 bfd19528fc52660f7ce1733ef03352eee4764c6a08db24b1bccbcb56cb009213"


@pytest.mark.parametrize("seed", ["0", "1", "4242"])
def test_the_trace_is_the_same_in_every_process_and_on_every_python(seed):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
        env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == GOLDEN
