"""Runs against a real server: warmed up, with rests between them, and ended when the server is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.core.vocabulary import FailureReason
from llmlab.experiments.running.perform import Performed, Stopped, perform
from llmlab.experiments.workload import ClosedLoop

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.events import AttemptEvent, CallEvent
    from llmlab.experiments.experiment import Experiment
    from llmlab.experiments.procedure import Procedure
    from llmlab.experiments.stop_signal import StopSignal


class RealTime:
    """Makes one run after another, as a procedure says.

    Args:
        procedure: how.
        stop: ends the run that is going on, and is set here when the server is gone.
        called: called after each call that counts.
    """

    def __init__(self, procedure: Procedure, stop: StopSignal, called: Callable[[], object]) -> None:
        self._procedure, self._stop, self._called = procedure, stop, called
        self._watch = _ConnectionWatch(procedure.max_connection_failures, stop)
        self._first = True

    def perform(self, number: int, experiment: Experiment) -> Performed:
        """Make one run.

        Raises:
            Stopped: the signal was set, also by this run.
        """
        if not self._first and self._stop.wait(self._procedure.cool_down):
            raise Stopped
        self._first = False
        if self._procedure.warm_up:
            asked = ClosedLoop(calls=self._procedure.warm_up, users=1, requests=experiment.workload.requests)
            self._perform(number, experiment.replace(workload=asked), None)
        return self._perform(number, experiment, self._called)

    def _perform(self, number: int, experiment: Experiment, done: Callable[[], object] | None) -> Performed:
        outcome = perform(number, experiment, done=done, observers=[self._watch], stop=self._stop)
        if self._stop.is_set():  # by the last attempt
            raise Stopped
        return outcome

    @property
    def in_doubt(self) -> bool:
        """Whether the last attempts found no server, so that nobody knows yet what the last run saw."""
        return self._watch.failures > 0


class _ConnectionWatch:
    """An observer that counts attempts in a row without a connection."""

    def __init__(self, limit: int | None, stop: StopSignal) -> None:
        self._limit, self._stop = limit, stop
        self.failures = 0

    def on_attempt(self, event: AttemptEvent) -> None:
        if self._limit is None or event.reason != FailureReason.CONNECTION_FAILED:
            self.failures = 0
            return
        self.failures += 1
        if self.failures >= self._limit:
            self._stop.set(
                f"the server is gone: {self.failures} attempts in a row found no connection "
                "(procedure.max_connection_failures)"
            )

    def on_call(self, event: CallEvent) -> None:
        """Attempts tell it all."""
