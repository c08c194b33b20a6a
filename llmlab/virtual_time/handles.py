"""What `call_soon` and `call_at` return: a callback that can be cancelled.

A timer's handle *is* a list, `[when, number]`, because a timer heap spends its time comparing, and a heap of lists
compares in C: `when` first, then `number`, which is unique, so that equal times keep their arming order. (With
asyncio's `TimerHandle`, every comparison is a Python call of `__lt__`.) That of `call_soon` is an empty list. What to
run, `run(*args)`, stands in two slots beside it: Python reads those sooner than it takes such a list apart.
"""

from __future__ import annotations

from contextvars import Context
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


class VirtualHandle(list[Any]):
    """A scheduled callback: `cancel()`, `cancelled()` and `when()`, as asyncio's handles have them."""

    __slots__ = ("__weakref__", "args", "run")
    run: Callable[..., object]
    args: tuple[Any, ...]
    # By identity, for those who keep handles in a set. Defining `__eq__` beside it would move every comparison
    # of the heap from C to Python, so handles compare as lists.
    __hash__ = object.__hash__  # type: ignore[assignment]

    def cancel(self) -> None:
        """Never run the callback, and let go of it now: a cancelled timer may stay in the heap for a while."""
        self.run, self.args = cancelled, ()

    def cancelled(self) -> bool:
        """Whether `cancel()` was called."""
        return self.run is cancelled

    def when(self) -> float:
        """The virtual time at which a timer is due."""
        return float(self[0])

    def get_context(self) -> Context | None:
        """The contextvars context the callback runs in; `None` when it needs none, or is cancelled."""
        bound_to = getattr(self.run, "__self__", None)
        return bound_to if isinstance(bound_to, Context) else None

    def __repr__(self) -> str:
        state = "cancelled " if self.cancelled() else ""
        when = f"when={self[0]!r} " if self else ""
        return f"<VirtualHandle {state}{when}{describe_callback(self)}>"


def running(callback: Callable[[], object]) -> VirtualHandle:
    """Return the handle of a callback that is run in no context of its own."""
    handle = VirtualHandle()
    handle.run, handle.args = callback, ()
    return handle


def cancelled() -> None:
    """What a cancelled handle runs: nothing."""


def describe_callback(handle: VirtualHandle) -> str:
    """The scheduled callback, for messages: `function(arguments)`."""
    run, args = handle.run, handle.args
    if handle.get_context() is not None:  # then `run` is `context.run`, and what it runs is its first argument
        run, args = args[0], args[1:]
    name = getattr(run, "__qualname__", None) or repr(run)
    return f"{name}({', '.join(map(repr, args))})"
