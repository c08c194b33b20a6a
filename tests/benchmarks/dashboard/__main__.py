"""How long the dashboard takes from a slider's move to the picture on its way to the front end.

    python -m tests.benchmarks.dashboard

Each move comes on another thread than the dashboard's, as a front end's message does, and is measured until the
picture's trait is set. The sentence that follows the picture is waited for before the next move.
"""

import threading
from time import perf_counter

import numpy as np

from llmlab.widgets import SITUATIONS, SweepDashboard

MOVES = 60
CONTROL = {"retry storm": "max_retries", "slow Ollama": "max_retries"}


def redraws(name: str, question: str | None) -> list[float]:
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
        start = perf_counter()
        control.value = control.min + (move % 9) * (1 if control.max > 1 else 0.04)
        if drawn.wait(2.0):  # not where the chart is the same to the last pixel
            taken.append(perf_counter() - start)
        dashboard.wait()
    dashboard.close()
    return taken


def main() -> None:
    print(f"{'situation':18} {'chart':45} redraws   p50 ms   p95 ms")
    questions: list[str | None] = [None, "What happened over time?", "How long do calls take, and how many fail?"]
    for name, question in [*((name, None) for name in SITUATIONS), *(("timeouts", each) for each in questions[1:])]:
        taken = np.array(redraws(name, question))
        p50, p95 = 1e3 * np.quantile(taken, [0.5, 0.95])
        print(f"{name:18} {question or 'the first':45} {len(taken):7} {p50:8.0f} {p95:8.0f}")


if __name__ == "__main__":
    main()
