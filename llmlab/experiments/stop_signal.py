"""A request to stop, which any thread may make and which reaches whatever is waiting at the time.

A sweep may be stopped by its user, by a bound on its time or by a server that is gone, while it waits for a simulation,
for a real call or for a worker process. Each of these says here how it is to be interrupted.
"""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class StopSignal:
    """Set once, with the reason; safe to use from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._event = threading.Event()
        self._callbacks: list[Callable[[], object]] = []
        self.reason = ""
        """Why to stop, in words for the user; empty while nobody has asked."""

    def set(self, reason: str) -> None:
        """Ask to stop. The first reason stands."""
        with self._lock:
            if self._event.is_set():
                return
            self.reason = reason
            self._event.set()
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback()

    def is_set(self) -> bool:
        """Whether somebody has asked to stop."""
        return self._event.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait so long in real time, or until somebody asks to stop; return whether somebody has."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            # Ctrl-C that comes just before a thread waits is noticed after it: hence short waits.
            if self._event.wait(min(left, 0.1)):
                break
        return self._event.is_set()

    @contextmanager
    def calling(self, callback: Callable[[], object]) -> Iterator[None]:
        """Within it, `callback` is called when somebody asks to stop, on the asking thread; now if somebody has."""
        with self._lock:
            self._callbacks.append(callback)
            asked = self._event.is_set()
        if asked:
            callback()
        try:
            yield
        finally:
            with self._lock:
                self._callbacks.remove(callback)
