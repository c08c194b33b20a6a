"""Tasks that iterate in the same order everywhere.

asyncio keeps tasks in sets: `TaskGroup` aborts its children, `asyncio.wait` returns its done-set and `Runner` cancels
what is left in set order, and a set of ordinary tasks is ordered by their addresses, which differ from run to run.
These tasks hash to their creation number instead. Bare futures stay asyncio's own, because every sleep makes one: a
program that iterates over a set of futures that are no tasks still sees them ordered by address.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from asyncio import Future
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator
    from contextvars import Context

T = TypeVar("T")


class VirtualTask(asyncio.Task[T]):
    """A C task whose hash, and default name, is its creation number on its loop.

    Give it to `asyncio.create_eager_task_factory` for deterministic eager tasks (`VirtualLoop` does so by itself for
    `asyncio.eager_task_factory`).
    """

    __slots__ = ("_number",)

    def __init__(self, coro: Any, *, loop: Any, name: str | None = None, **options: Any) -> None:
        # Before asyncio's own `__init__`, which already puts the task into a set.
        number: int = next(loop.task_numbers)
        self._number = number
        super().__init__(coro, loop=loop, name=f"Task-{number}" if name is None else name, **options)

    def __hash__(self) -> int:
        return self._number


class MakesTasks(asyncio.AbstractEventLoop):
    """The part of a loop that makes futures and tasks."""

    def __init__(self) -> None:
        super().__init__()
        self.task_numbers = itertools.count(1)
        self._task_factory: Callable[..., Any] | None = None
        self._make_task: Callable[..., Any] | None = None  # the task factory, or what stands in for it
        self.create_future = partial(Future, loop=self)  # type: ignore[method-assign]  # one call less at every wait

    def create_future(self) -> asyncio.Future[Any]:
        """A future of this loop."""
        return Future(loop=self)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
        **options: Any,
    ) -> asyncio.Task[T]:
        """Schedule a coroutine; its task hashes to its creation number (see `tasks.py`)."""
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if self._make_task is None:
            return VirtualTask(coro, loop=self, name=name, context=context, **options)
        if context is not None:  # a factory need not know about contexts unless one is asked for
            options["context"] = context
        task: asyncio.Task[T] = self._make_task(self, coro, **options)
        if name is not None:
            task.set_name(name)
        return task

    def set_task_factory(self, factory: Callable[..., Any] | None) -> None:
        """Make tasks with `factory(loop, coro, **options)` from now on; `None` restores the default."""
        if factory is not None and not callable(factory):
            raise TypeError("task factory must be a callable or None")
        self._task_factory = self._make_task = factory
        if sys.version_info >= (3, 12) and factory is asyncio.eager_task_factory:
            self._make_task = asyncio.create_eager_task_factory(VirtualTask)  # the same, in a stable order

    def get_task_factory(self) -> Callable[..., Any] | None:
        """The task factory in use, or `None` for the default one."""
        return self._task_factory
