"""Hands events to observers, and keeps a broken observer from breaking a call.

`RaceEmitter` is the one of a client that hedges: what follows a failed attempt of a race is decided by the whole race.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakSet

from llmlab.core.event_log import EventLog
from llmlab.core.events import NAN

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.events import AttemptEvent, CallEvent, Observer
    from llmlab.core.vocabulary import BackoffSource

logger = logging.getLogger("llmlab")


class Watched(Protocol):
    """What a flow offers here: what it hands its attempts and its calls to, `None` where nobody watches."""

    tell: Callable[[AttemptEvent], None] | None
    tell_call: Callable[[CallEvent], None] | None


_CHANGE = threading.RLock()
"""Held while observers come or go, anywhere: that is rare, and reaches through the layers of a client."""


class Emitter(Sequence["Observer"]):
    """The observers of a client. One that raises is reported once, on the logger `llmlab`, and gets later events.

    Observers may come and go while calls are in flight, from any thread. As a sequence it always holds those of now, so
    that an emitter made of others' (`of`) follows them: thus the layers inside a client learn of its observers.

    Invariant: what a flow hands its events to is replaced, never changed, so that the hot path asks nothing.
    """

    def __init__(self, observers: Iterable[Observer] = (), *, of: Iterable[Sequence[Observer]] = ()) -> None:
        if callable(getattr(observers, "on_attempt", None)):
            raise TypeError(f"observers must be a list of observers, got one: write observers=[{observers!r}]")
        if not isinstance(observers, Iterable):
            raise TypeError(f"observers must be a list of observers, got {observers!r}; leave it out for none")
        self._own: tuple[Observer, ...] = tuple(observers)
        for place, observer in enumerate(self._own):
            _check(observer)
            if any(before is observer for before in self._own[:place]):
                raise ValueError(f"{observer!r} is given twice, and would get every event twice")
        self._sources = tuple(of)
        self._flows: WeakSet[Watched] = WeakSet()
        self._followers: WeakSet[Emitter] = WeakSet()
        self._reported: set[int] = set()
        with _CHANGE:
            for source in self._sources:
                if isinstance(source, Emitter):
                    source._followers.add(self)
            self._gather()

    def __len__(self) -> int:
        return len(self.observers)

    def __getitem__(self, place: Any) -> Any:
        return self.observers[place]

    def add(self, observer: Observer) -> None:
        """Hand events to this observer too, from now on.

        Raises:
            TypeError: it lacks a method of an observer.
            ValueError: it gets them already.
        """
        _check(observer)
        with _CHANGE:
            if any(one is observer for one in self.observers):
                raise ValueError(f"{observer!r} observes this client already, and would get every event twice")
            self._own = (*self._own, observer)
            self._gather()

    def remove(self, observer: Observer) -> None:
        """Hand no more events to this observer.

        Raises:
            ValueError: it was not given to this client.
        """
        with _CHANGE:
            if all(one is not observer for one in self._own):
                raise ValueError(f"{observer!r} does not observe this client; it has {len(self._own)} observers")
            self._own = tuple(one for one in self._own if one is not observer)
            self._gather()

    def watch(self, flow: Watched) -> None:
        """Let a flow hand its events to the observers, whoever they are at the time."""
        with _CHANGE:
            self._flows.add(flow)
            flow.tell, flow.tell_call = self._receivers()

    def _gather(self) -> None:
        found = list(self._own)
        for source in self._sources:
            have = {id(one) for one in found}
            found += [one for one in source if id(one) not in have]
        self.observers = tuple(found)
        self._attempt = [(observer.on_attempt, observer) for observer in found]
        self._call = [(observer.on_call, observer) for observer in found]
        self._reported &= {id(observer) for observer in found}
        for flow in self._flows:
            flow.tell, flow.tell_call = self._receivers()
        for follower in self._followers:
            follower._gather()

    def _receivers(self) -> tuple[Callable[[AttemptEvent], None], Callable[[CallEvent], None]] | tuple[None, None]:
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

    def __init__(self, observers: Iterable[Observer] = (), *, of: Iterable[Sequence[Observer]] = ()) -> None:
        self._kept: dict[int, AttemptEvent] = {}
        super().__init__(observers, of=of)

    def _gather(self) -> None:
        super()._gather()
        if not self.observers:
            self._kept.clear()  # nobody would ask for them any more

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


def _check(observer: Observer) -> None:
    if isinstance(observer, type):
        raise TypeError(
            f"an observer must be an object and not the class {observer.__name__}; write {observer.__name__}()"
        )
    for method in ("on_attempt", "on_call"):
        if not callable(getattr(observer, method, None)):
            raise TypeError(f"an observer needs the methods on_attempt and on_call; {observer!r} has no {method}")
