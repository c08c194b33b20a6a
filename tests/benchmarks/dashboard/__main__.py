"""How long the dashboard takes from a slider's move to the picture on its way to the front end, and to cancel a sweep.

    python -m tests.benchmarks.dashboard

Each move comes on another thread than the dashboard's, as a front end's message does, and is measured until the
picture's trait is set: wall time, and the processor's time that the whole process took. The sentence that follows the
picture is waited for before the next move. A cancel is measured until the page says so and can run again.
"""

import threading
from time import perf_counter, process_time, sleep

import numpy as np

from llmlab.widgets import SITUATIONS, SweepDashboard

MOVES, CANCELS = 60, 20
CONTROL = {"retry storm": "max_retries", "slow Ollama": "max_retries"}
QUESTIONS = (
    "What happened over time?",
    "How long do calls take, and how many fail?",
    "Where do latencies pile up?",
    "Where does the time go?",
    "What do single calls meet?",
)


def redraws(name: str, question: str | None) -> list[tuple[float, float]]:
    dashboard = SweepDashboard(name)
    dashboard.wait()
    page, drawn = dashboard._page, threading.Event()
    if question is not None:
        page.question.value = question
        dashboard.wait()
    page.picture.observe(lambda _: drawn.set(), "value")
    control = dashboard.controls[CONTROL.get(name, "timeout_probability")]
    taken = []
    for move in range(MOVES):
        drawn.clear()
        start, cpu = perf_counter(), process_time()
        control.value = control.min + (move % 9) * (1 if control.max > 1 else 0.04)
        if drawn.wait(2.0):  # not where the chart is the same to the last pixel
            taken.append((perf_counter() - start, process_time() - cpu))
        dashboard.wait()
    dashboard.close()
    return taken


def cancels() -> list[float]:
    dashboard = SweepDashboard("retry storm")
    dashboard.controls["calls"].value = 5000
    dashboard.wait()
    page, ended = dashboard._page, threading.Event()
    page.cancel.observe(lambda change: change["new"] and ended.set(), "disabled")
    dashboard.sweep_over(("rate", "1 to 20 in 200"))
    taken = []
    for cancel in range(CANCELS):
        ended.clear()
        dashboard.run()
        sleep(0.5 + 0.05 * cancel)  # in the middle of a run
        start = perf_counter()
        dashboard.cancel()
        if not ended.wait(60):
            raise TimeoutError("a sweep was not cancelled within a minute")
        taken.append(perf_counter() - start)
        dashboard.wait()
    dashboard.close()
    return taken


def main() -> None:
    print(f"{'situation':18} {'chart':43} redraws  p50 ms  p95 ms  CPU p50  CPU p95")
    for name, question in [*((name, None) for name in SITUATIONS), *(("timeouts", each) for each in QUESTIONS)]:
        taken = 1e3 * np.array(redraws(name, question))
        (p50, cpu50), (p95, cpu95) = np.quantile(taken, [0.5, 0.95], axis=0)
        print(f"{name:18} {question or 'the first':43} {len(taken):7} {p50:7.0f} {p95:7.0f} {cpu50:8.0f} {cpu95:8.0f}")
    p50, p95 = 1e3 * np.quantile(cancels(), [0.5, 0.95])
    print(f"{CANCELS} cancels of a sweep: p50 {p50:.0f} ms, p95 {p95:.0f} ms")


if __name__ == "__main__":
    main()
