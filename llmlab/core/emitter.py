"""Hands events to observers, and keeps a broken observer from breaking a call.

`RaceEmitter` is the one of a client that hedges: what follows a failed attempt of a race is decided by the whole race.
"""

from __future__ import annotations

import logging
from math import isnan
from typing import TYPE_CHECKING

from llmlab.core.event_log import EventLog
from llmlab.core.events import NAN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlab.core.events import AttemptEvent, CallEvent, Observer
    from llmlab.core.vocabulary import BackoffSource

logger = logging.getLogger("llmlab")


class Emitter:
    """The observers of a client. One that raises is reported once, on the logger `llmlab`, and gets later events."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        if callable(getattr(observers, "on_attempt", None)):
            raise TypeError(f"observers must be a list of observers, got one: write observers=[{observers!r}]")
        self.observers = tuple(observers)
        for observer in self.observers:
            for method in ("on_attempt", "on_call"):
                if not callable(getattr(observer, method, None)):
                    raise TypeError(
                        f"an observer needs the methods on_attempt and on_call; {observer!r} has no {method}"
                    )
        self._attempt = [(observer.on_attempt, observer) for observer in self.observers]
        self._call = [(observer.on_call, observer) for observer in self.observers]
        self._reported: set[int] = set()

    def receivers(self) -> tuple[Callable[[AttemptEvent], None], Callable[[CallEvent], None]] | tuple[None, None]:
        """Return what a flow hands its attempts and its calls to; nothing where nobody watches.

        An `EventLog` alone receives them itself: it raises nothing, and an experiment has no other.
        """
        if not self.observers:
            return None, None
        first = self.observers[0]
        if len(self.observers) == 1 and isinstance(first, EventLog) and type(self) is Emitter:
            return first.on_attempt, first.on_call
        return self.attempt, self.call

    def attempt(self, event: AttemptEvent) -> None:
        """Hand an attempt to every observer."""
        for receive, observer in self._attempt:
            try:
                receive(event)
            except Exception as error:  # noqa: BLE001 - whatever an observer raises, the call goes on
                self._report(observer, error)

    def call(self, event: CallEvent) -> None:
        """Hand a call to every observer."""
        for receive, observer in self._call:
            try:
                receive(event)
            except Exception as error:  # noqa: BLE001 - whatever an observer raises, the call goes on
                self._report(observer, error)

    def _report(self, observer: Observer, error: Exception) -> None:
        if id(observer) not in self._reported:
            self._reported.add(id(observer))
            logger.error("an observer raised; calls go on; reported only once: %r", observer, exc_info=error)


class RaceEmitter(Emitter):
    """Keeps a failed attempt back until it is known whether a backoff follows, which its event is to say.

    Invariant: at most one event of a call is kept, the last to have failed, and none longer than its race.
    """

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        super().__init__(observers)
        self._kept: dict[int, AttemptEvent] = {}

    def attempt(self, event: AttemptEvent) -> None:
        """Hand an attempt to every observer, or keep it if it failed."""
        self.release(event.call)
        if event.reason is None:
            super().attempt(event)
        else:
            self._kept[event.call] = event

    def release(self, call: int, backoff_s: float = NAN, source: BackoffSource | None = None) -> None:
        """Hand on the attempt kept of this call, if any, with the backoff that follows it; NaN where none does."""
        event = self._kept.pop(call, None)
        if event is not None:
            follows = not isnan(backoff_s)
            super().attempt(event._replace(backoff_s=backoff_s, backoff_source=source) if follows else event)

    def call(self, event: CallEvent) -> None:
        """Hand a call to every observer, after its attempts."""
        self.release(event.call)
        super().call(event)
