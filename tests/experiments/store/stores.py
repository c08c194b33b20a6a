"""What the tests of the store share: small experiments, their batches, and the rows that a store holds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmlab import ClosedLoop, Experiment, MockBackend, ServerModel
from llmlab.experiments.store import RunBatch, Store, run_key

if TYPE_CHECKING:
    from collections.abc import Iterable

    from llmlab.experiments.store import Keep

SERVED = Experiment(backend=MockBackend(server=ServerModel(slots=2)), workload=ClosedLoop(calls=8, users=4))


def experiments(count: int = 4, base: Experiment = SERVED) -> list[Experiment]:
    """Return experiments that differ in their seed."""
    return [base.replace(seed=seed) for seed in range(count)]


def batch(of: Iterable[Experiment], keep: Keep = "events") -> RunBatch:
    """Run the experiments, into one batch."""
    return RunBatch.of([(run_key(one), one.record()) for one in of], keep)


def rows(store: Store, table: str = "attempts") -> list[tuple[Any, ...]]:
    """Return all rows of all runs of a store, each led by its run's key, as texts (NaN is equal to itself), sorted."""
    stored = store.read()
    names = {run.number: key for key, run in stored.found.items()}
    found = stored.dataset(table, stored.found).to_table().to_pylist()
    return sorted(tuple(map(str, (names[row.pop("run")], *row.values()))) for row in found if row["run"] in names)
