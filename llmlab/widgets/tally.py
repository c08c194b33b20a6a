"""What a `LiveMonitor` counts: an observer that only appends, and the numbers that are made of it when somebody looks.

Memory is bounded: totals are kept for ever, single calls and attempts of the outermost client at most `RECENT` each,
and no more than about `PENDING` events wait to be counted. Times are the events' own, so a simulation is shown in its
virtual time. No prompt and no text is ever seen here: events hold none.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.events import AttemptEvent, CallEvent

T = TypeVar("T")

RECENT = 4096
"""How many of the latest calls, and of the latest attempts, the window and its percentiles are made of at the most."""
PENDING = 2048
"""How many calls may end before they are counted by the thread that makes them: usually the page counts earlier."""
BUCKETS = 60
PERCENTILES = (0.5, 0.95, 0.99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """A slice of the window: attempts that ended in it, and the median latency of its calls in seconds, if any."""

    answered: int
    failed: int
    latency_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """What a `LiveMonitor` has seen of a client until now.

    Attributes:
        calls: how many calls have ended.
        answered: how many of them were answered.
        attempts: how many attempts have ended.
        in_flight: how many calls were in progress just now, of all clients that share this one's limits.
        failed_attempts: why attempts failed: the number by reason, the most frequent first.
        failed_calls: why calls were not answered: the number by reason.
        latency_s: the latency of the recent calls in seconds, at `PERCENTILES`; empty before the first has ended.
        window_s: how many seconds of the events' own clock the recent calls and attempts span.
        recent_calls: how many calls the percentiles are of.
        buckets: the window in slices of equal length, the oldest first.
        layers: of each layer inside the client, by name, its calls, attempts and failed attempts.
    """

    calls: int
    answered: int
    attempts: int
    in_flight: int
    failed_attempts: dict[str, int]
    failed_calls: dict[str, int]
    latency_s: dict[float, float]
    window_s: float
    recent_calls: int
    buckets: tuple[Bucket, ...]
    layers: dict[str, tuple[int, int, int]]

    def __str__(self) -> str:
        calls = f"{self.calls:,} calls ended, {share(self.answered, self.calls)} answered; {self.in_flight:,} in flight"
        failed = share(sum(self.failed_attempts.values()), self.attempts)
        lines = [f"{calls}; {self.attempts:,} attempts, {failed} failed"]
        if self.latency_s:
            said = ", ".join(f"p{100 * q:g} {value:.3g} s" for q, value in self.latency_s.items())
            lines.append(f"latency of the last {self.recent_calls:,} calls: {said}")
        if self.failed_attempts:
            counts = (f"{number:,} {reason}" for reason, number in self.failed_attempts.items())
            lines.append(f"failed attempts: {', '.join(counts)}")
        return "\n".join(lines)


def share(part: int, whole: int) -> str:
    """Return a share as a percentage; a dash of nothing."""
    return f"{100 * part / whole:.1f}%" if whole else "-"


class Tally:
    """The observer of a `LiveMonitor`. Events are appended on the client's thread, and counted on whichever looks.

    Args:
        layer: the name of the outermost client, whose calls are shown.
        window: how many seconds count as recent, on the events' own clock.
    """

    def __init__(self, layer: str, window: float) -> None:
        self._layer, self._window = layer, window
        self._counting = threading.Lock()
        self._new_attempts: list[AttemptEvent] = []
        self._new_calls: list[CallEvent] = []
        self.on_attempt: Callable[[AttemptEvent], None] = self._new_attempts.append  # no Python code in between
        self._calls: Counter[tuple[str, str]] = Counter()
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._recent_calls: deque[tuple[float, float]] = deque(maxlen=RECENT)
        self._recent_attempts: deque[tuple[float, bool]] = deque(maxlen=RECENT)

    def on_call(self, event: CallEvent) -> None:
        """Keep a call to be counted; where nobody looks, count now, so that memory stays bounded."""
        self._new_calls.append(event)
        if len(self._new_calls) >= PENDING:
            self.count()

    @property
    def events(self) -> int:
        """How many events there were, counted or not; other than the counts it is the same whoever has looked."""
        with self._counting:
            counted = self._calls.total() + self._attempts.total()
            return counted + len(self._new_calls) + len(self._new_attempts)

    def count(self) -> None:
        """Take what was appended into the numbers. Others may go on appending: they append behind what is taken."""
        with self._counting:
            attempts = _taken(self._new_attempts)
            calls = _taken(self._new_calls)
            self._attempts.update([(event.layer, event.reason or "") for event in attempts])
            self._calls.update([(event.layer, event.reason or "") for event in calls])
            mine = self._layer
            ended = [
                (event.ended_at_s, event.ended_at_s - event.arrived_at_s) for event in calls if event.layer == mine
            ]
            if _clock_began_anew(self._recent_calls, ended):
                self._recent_calls.clear()
                self._recent_attempts.clear()
            self._recent_calls.extend(ended)
            self._recent_attempts.extend(
                [(event.ended_at_s, event.reason is not None) for event in attempts if event.layer == mine]
            )

    def snapshot(self, in_flight: int) -> Snapshot:
        """Count what is new and return the numbers."""
        self.count()
        with self._counting:
            calls, attempts = list(self._recent_calls), list(self._recent_attempts)
            all_calls, all_attempts = self._calls.copy(), self._attempts.copy()
        newest = max((rows[-1][0] for rows in (calls, attempts) if rows), default=0.0)
        since = newest - self._window
        calls = [row for row in calls if row[0] >= since]
        attempts = [row for row in attempts if row[0] >= since]
        oldest = min((rows[0][0] for rows in (calls, attempts) if rows), default=newest)
        latencies = sorted(latency for _, latency in calls)
        ended = {reason: count for (layer, reason), count in all_calls.most_common() if layer == self._layer}
        tried = {reason: count for (layer, reason), count in all_attempts.most_common() if layer == self._layer}
        return Snapshot(
            calls=sum(ended.values()),
            answered=ended.pop("", 0),
            attempts=sum(tried.values()),
            in_flight=in_flight,
            failed_attempts={str(reason): count for reason, count in tried.items() if reason},
            failed_calls={str(reason): count for reason, count in ended.items()},
            latency_s={q: percentile(latencies, q) for q in PERCENTILES} if latencies else {},
            window_s=newest - oldest,
            recent_calls=len(latencies),
            buckets=_buckets(calls, attempts, oldest, newest),
            layers=_inside(all_calls, all_attempts, self._layer),
        )


def percentile(ordered: Sequence[float], q: float) -> float:
    """Return the value that a share `q` of the ordered values stays within (nearest rank)."""
    return ordered[max(0, -int(-q * len(ordered) // 1) - 1)]


def _taken(pending: list[T]) -> list[T]:
    batch = pending[:]
    del pending[: len(batch)]
    return batch


def _clock_began_anew(known: deque[tuple[float, float]], new: list[tuple[float, float]]) -> bool:
    """Whether calls end before those known: on one event loop they end in order, so this is another."""
    return bool(known and new) and new[0][0] < known[-1][0]


def _buckets(
    calls: list[tuple[float, float]], attempts: list[tuple[float, bool]], oldest: float, newest: float
) -> tuple[Bucket, ...]:
    width = (newest - oldest) / BUCKETS
    if width <= 0:
        return ()
    counts = [[0, 0] for _ in range(BUCKETS)]
    latencies: list[list[float]] = [[] for _ in range(BUCKETS)]
    for ended, failed in attempts:
        counts[min(int((ended - oldest) / width), BUCKETS - 1)][failed] += 1
    for ended, latency in calls:
        latencies[min(int((ended - oldest) / width), BUCKETS - 1)].append(latency)
    return tuple(
        Bucket(answered=answered, failed=failed, latency_s=percentile(sorted(some), 0.5) if some else None)
        for (answered, failed), some in zip(counts, latencies, strict=True)
    )


def _inside(
    calls: Counter[tuple[str, str]], attempts: Counter[tuple[str, str]], outermost: str
) -> dict[str, tuple[int, int, int]]:
    found: dict[str, tuple[int, int, int]] = {}
    for layer in {name for name, _ in (*calls, *attempts)} - {outermost}:
        tried = {reason: count for (name, reason), count in attempts.items() if name == layer}
        whole = sum(tried.values())
        made = sum(count for (name, _), count in calls.items() if name == layer)
        found[layer] = (made, whole, whole - tried.get("", 0))
    return dict(sorted(found.items()))
