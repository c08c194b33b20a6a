"""Waiting for another thread so that Ctrl-C gets through, and a short-lived thread for a loop of one's own.

A loop cannot start inside a running one (a Jupyter cell), but in another thread it can.
"""

from __future__ import annotations

import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_for(event: threading.Event) -> None:
    """Wait for an event so that Ctrl-C is noticed within a tenth of a second.

    A signal that comes just before a thread blocks does not wake it: Python looks for signals between waits only.
    """
    while not event.wait(0.1):
        pass


def in_a_thread(work: Callable[[], T], interrupt: Callable[[], None]) -> T:
    """Do `work` in a short-lived thread with this one's context; on Ctrl-C `interrupt` it and wait for its end."""
    outcome: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()  # an interrupted Thread.join() takes the thread for ended (Python 3.11)

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
            errors.append(error)
        finally:
            done.set()

    # A daemon, so that a second Ctrl-C always gets through, even if `work` takes no notice of the first.
    thread = threading.Thread(target=copy_context().run, args=(run,), name="llmlab virtual time", daemon=True)
    try:
        thread.start()
        wait_for(done)
    except KeyboardInterrupt:  # which may come while the thread is only just starting
        interrupt()
        done.wait()
        raise
    thread.join()
    if errors:
        raise errors[0]
    return outcome[0]
