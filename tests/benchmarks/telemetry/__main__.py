"""What each observer adds to a simulated call of one attempt, in turns, the fastest of five.

    python -m tests.benchmarks.telemetry

OpenTelemetry's SDK keeps no span here: what is measured is making them, and recording the histograms.
"""

from time import process_time

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from llmlab import ClosedLoop, EventLog, Experiment, OpenTelemetryObserver

CALLS, ROUNDS = 5_000, 5
WORKLOAD = Experiment(workload=ClosedLoop(calls=CALLS, users=50))


def observers() -> dict[str, list]:
    metrics = MeterProvider([InMemoryMetricReader()])
    return {
        "a second event log": [EventLog()],
        "OpenTelemetry, no provider": [OpenTelemetryObserver()],
        "OpenTelemetry, spans not sampled": [OpenTelemetryObserver(TracerProvider(ALWAYS_OFF))],
        "OpenTelemetry, spans": [OpenTelemetryObserver(TracerProvider())],
        "OpenTelemetry, spans and metrics": [OpenTelemetryObserver(TracerProvider(), metrics)],
    }


def seconds(watching: list) -> float:
    start = process_time()
    WORKLOAD.record(observers=watching)
    return process_time() - start


def main() -> None:
    variants = {"an event log alone": [], **observers()}
    rounds = [{name: seconds(watching) for name, watching in variants.items()} for _ in range(ROUNDS)]
    best = {name: min(one[name] for one in rounds) / CALLS * 1e6 for name in variants}
    base = best["an event log alone"]
    for name, each in best.items():
        print(f"{name:35} {each:7.1f} us per call, {each - base:+6.1f}")


if __name__ == "__main__":
    main()
