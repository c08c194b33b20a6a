"""Ctrl-C while a virtual loop runs in the main thread.

`asyncio.Runner` cancels the main task from inside the signal handler, which may come in the middle of any callback. A
real loop mostly waits, so that hardly ever matters; a virtual loop never waits, and a timer that had just looked at
its future would find it cancelled. Here the signal puts the cancellation behind the callbacks that are ready, and it
happens between two of them.
"""

from __future__ import annotations

import signal
import threading
from asyncio import CancelledError
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from llmlab.virtual_time.loop import VirtualLoop


@contextmanager
def interrupts_cancel_main(loop: VirtualLoop) -> Iterator[None]:
    """Within it, the first Ctrl-C cancels what the loop runs and is raised at its end; a second is raised at once.

    Does nothing outside the main thread, or where the program has a handler of its own.
    """
    on_main_thread = threading.current_thread() is threading.main_thread()
    if not on_main_thread or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return
    interrupted = False

    def on_interrupt(_number: int, _frame: FrameType | None) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True  # and raised at the end: here it might hit the loop while it is being set up or put away
        loop.cancel_main_soon()

    signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield
    except CancelledError:
        if not interrupted:
            raise
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if interrupted:
        raise KeyboardInterrupt
