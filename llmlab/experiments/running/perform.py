"""What is done with a run, wherever that is: it is made, and what it recorded or why it failed is sent back.

A mistake in a backend of the user's own costs its run and no other, so every exception becomes a `Performed`.
"""

from __future__ import annotations

import traceback
from asyncio import CancelledError
from typing import TYPE_CHECKING, NamedTuple

from llmlab.experiments.runs import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from llmlab.core.events import Observer
    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.precision import Measured
    from llmlab.experiments.running.sink import Sink, SinkBuffer
    from llmlab.experiments.runs import RunLog
    from llmlab.experiments.stop_signal import StopSignal


class Performed(NamedTuple):
    """How a run ended: the run's number, and what was recorded, unless that went to a store.

    Where it failed: why, and where in the code. `value` is the metric that was asked for.
    """

    number: int
    record: RunLog | None
    reason: str = ""
    traceback: str = ""
    value: Measured | None = None


class Stopped(Exception):
    """The run was stopped before its end."""


def perform_batch(
    batch: Sequence[tuple[int, str, Experiment]], sink: Sink | None = None, metric: str = ""
) -> list[Performed]:
    """Make runs, given with their numbers and keys, one after another: what a worker does.

    With a sink their records are written there, and not sent back. With a metric each outcome has its value.

    Raises:
        NotStored: they cannot be written.
    """
    performed = []
    buffer = None if sink is None else sink.buffer()
    for number, key, experiment in batch:
        outcome = with_value(perform(number, experiment), metric)
        performed.append(put_away(outcome, key, buffer))
    if buffer is not None:
        buffer.flush()
    return performed


def perform(
    number: int,
    experiment: Experiment,
    *,
    done: Callable[[], object] | None = None,
    observers: Iterable[Observer] = (),
    stop: StopSignal | None = None,
) -> Performed:
    """Make one run; see `Experiment.record`.

    Raises:
        Stopped: the signal was set.
    """
    try:
        return Performed(number, experiment.record(done=done, observers=observers, stop=stop))
    except (Exception, CancelledError) as error:  # noqa: BLE001 - reported as the run's result, with its place
        if stop is not None and stop.is_set():
            raise Stopped from None
        return Performed(number, None, reason_of(error), "".join(traceback.format_exception(error)))


def with_value(outcome: Performed, metric: str) -> Performed:
    """Return an outcome with its value of a metric, if one is asked for and the run has not failed."""
    if not metric or outcome.record is None:
        return outcome
    from llmlab.experiments.precision import measured  # noqa: PLC0415 - a second of pandas and scipy, else not needed

    return outcome._replace(value=measured(Run({}, 0, 0, outcome.record), metric))


def put_away(outcome: Performed, key: str, buffer: SinkBuffer | None) -> Performed:
    """Give what a run recorded to where it is to be written, and return the outcome without it.

    Raises:
        NotStored: it cannot be written.
    """
    if buffer is None or outcome.record is None:
        return outcome
    buffer.add(key, outcome.record)
    return outcome._replace(record=None)


def reason_of(error: BaseException) -> str:
    """Say in a line what an exception says."""
    first_line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {first_line}" if first_line else type(error).__name__
