"""A sweep carried out: in one go, awaited, or run by run as they end.

All three consume the same iterator, `SweepRun.ended`.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, closing
from typing import TYPE_CHECKING

from llmlab.experiments.running.sweep_run import INTERRUPTED

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from llmlab.experiments.running.sweep_run import SweepRun
    from llmlab.experiments.runs import FailedRun, Run
    from llmlab.experiments.sweep_result import SweepResult


def carry_out(run: SweepRun) -> SweepResult:
    """Carry a sweep out on this thread; Ctrl-C ends it, and what is finished by then is its result.

    Raises:
        KeyboardInterrupt: nothing was finished by then.
        SweepError: no run could be finished.
    """
    try:
        with closing(run.ended()) as ended:
            for _ in ended:
                pass
    except KeyboardInterrupt:
        if not run.has_runs:
            raise
        run.stop.set(INTERRUPTED)
    return run.result()


async def stream(run: SweepRun) -> AsyncGenerator[Run | FailedRun]:
    """Carry a sweep out in another thread, and yield each run here when it has ended.

    To cancel what iterates, or to close the generator, ends the sweep at once.
    """
    loop = asyncio.get_running_loop()
    ended = run.ended()
    coming: asyncio.Future[Run | FailedRun | None] | None = None
    try:
        while True:
            coming = loop.run_in_executor(None, next, ended, None)
            one = await asyncio.shield(coming)
            if one is None:
                return
            yield one
    except (asyncio.CancelledError, GeneratorExit):
        run.stop.set(INTERRUPTED)
        raise
    finally:
        if coming is not None:
            await asyncio.wait([coming])
        await loop.run_in_executor(None, ended.close)


async def carry_out_async(run: SweepRun) -> SweepResult:
    """Carry a sweep out in another thread while this event loop goes on with other work.

    Raises:
        SweepError: no run could be finished.
    """
    async with aclosing(stream(run)) as ended:
        async for _ in ended:
            pass
    return run.result()
