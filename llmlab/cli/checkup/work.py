"""Does what llmlab does work on this machine? A little of each: simulate, store, use processes, draw."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab import virtual_time
from llmlab.cli.checkup.finding import Finding
from llmlab.experiments.experiment import Experiment
from llmlab.experiments.running.worker_pool import WorkerPool, cores
from llmlab.experiments.sweep import Sweep
from llmlab.experiments.sweep_result import SweepResult
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    from concurrent.futures import Executor

_PROCESS_STARTS_WITHIN = 60.0  # seconds; it takes one where the machine is idle
_LOW_SPACE = 100e6  # bytes
_CALLS = 20


def check_virtual_time() -> Finding:
    """Does the clock of a simulation jump?"""

    async def an_hour() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - began

    passed = virtual_time.run(an_hour())
    if passed == 3600:  # exact: nothing but the timer moves that clock
        return Finding("virtual time", "ok", "an hour passed at once")
    return Finding(
        "virtual time", "problem", f"an hour's sleep took {passed:g} virtual seconds", "reinstall llmlab; report this"
    )


def check_store(folder: Path) -> list[Finding]:
    """Can a sweep be stored in this folder, and read again? What it writes is removed.

    Args:
        folder: where results are to be stored.
    """
    where = folder.resolve()
    remedy = f"choose another folder, or make '{where}' one that you may write into"
    if not where.is_dir():
        return [Finding("store", "problem", f"there is no folder '{where}'", "make it, or name another with --store")]
    sweep = Sweep(Experiment(workload=ClosedLoop(calls=_CALLS)), {"policy.retry.max_retries": [0, 1]})
    try:
        with tempfile.TemporaryDirectory(prefix=".llmlab-doctor-", dir=where) as scratch:
            sweep.run(store=scratch, workers=1, progress=False)
            read = len(SweepResult.load(scratch).calls)
    except OSError as error:
        return [Finding("store", "problem", f"cannot write into '{where}': {error.strerror or error}", remedy)]
    if read != 2 * _CALLS:
        return [Finding("store", "problem", f"{2 * _CALLS} calls were stored in '{where}', {read} were read", remedy)]
    findings = [Finding("store", "ok", f"a sweep was written into '{where}' and read again")]
    free = shutil.disk_usage(where).free
    if free < _LOW_SPACE:
        findings.append(Finding("disk", "note", f"only {free / 1e6:.0f} MB are free at '{where}'", "make room"))
    return findings


def check_processes(pool: Executor | None = None) -> Finding:
    """Can sweeps run in processes of their own?

    Args:
        pool: where to run; `None` means llmlab's own processes.
    """
    pool = WorkerPool(1) if pool is None else pool
    try:
        other = pool.submit(os.getpid).result(timeout=_PROCESS_STARTS_WITHIN)
    except Exception as error:  # noqa: BLE001 - whatever the system says: it is reported
        said = f"none could be used: {type(error).__name__}: {error}"
        return Finding(
            "processes", "problem", said, "run sweeps with workers=1; look for limits on processes (ulimit -u)"
        )
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
    if other == os.getpid():
        return Finding("processes", "problem", "work was done in this process", "run sweeps with workers=1")
    return Finding("processes", "ok", f"a worker process answered; this machine has {cores()} cores for sweeps")


def check_charts(cache: Path | None = None) -> list[Finding]:
    """Can charts be drawn, and does matplotlib keep its list of fonts?

    Args:
        cache: matplotlib's folder for that; `None` asks matplotlib.
    """
    import matplotlib as mpl  # noqa: PLC0415 - late: half a second, and it may be what is broken
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    figure = Figure()
    figure.add_subplot().set_title("μ = λ(1 + r)")
    figure.savefig(drawn := io.BytesIO(), format="png")
    findings = [Finding("charts", "ok", f"drawn with matplotlib {mpl.__version__} ({len(drawn.getvalue())} bytes)")]
    cache = Path(mpl.get_cachedir()) if cache is None else cache
    if not os.access(cache, os.W_OK):
        said = f"matplotlib cannot write into '{cache}', and so lists all fonts anew in each process"
        findings.append(Finding("fonts", "note", said, "set MPLCONFIGDIR to a folder that you may write into"))
    return findings
