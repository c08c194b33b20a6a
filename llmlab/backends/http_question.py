"""A question to a server that many attempts wait for, such as which model it has: it is asked once for all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from llmlab.backends.http_failures import Failed
from llmlab.core.backend import AttemptFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from llmlab.core.backend import Timeouts

T = TypeVar("T")


class Question(Generic[T]):
    """A look-up that any number of tasks wait for, and that is given up when none of them waits any more."""

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._task = asyncio.get_running_loop().create_task(work)
        self._waiting = 0
        self._given_up = False

    @property
    def is_over(self) -> bool:
        """Whether it is too late to wait for it."""
        return self._given_up or self._task.done()

    async def answer(self) -> T:
        """Wait for the answer; to cancel this wait leaves the others their answer."""
        self._waiting += 1
        try:
            return await asyncio.shield(self._task)
        finally:
            self._waiting -= 1
            if not self._waiting and not self._task.done():
                self._given_up = True
                self._task.cancel()


class DefaultModel:
    """The model for requests that name none, where the settings name none either: the server is asked once.

    Args:
        look_up: asks the server, within these timeouts, and says which model it is.
    """

    def __init__(self, look_up: Callable[[Timeouts], Coroutine[Any, Any, str | AttemptFailure]]) -> None:
        self._look_up = look_up
        self._known: str | None = None
        self._question: Question[str | AttemptFailure] | None = None

    async def name(self, timeouts: Timeouts) -> str:
        """Return the model's name.

        Raises:
            Failed: the server does not say.
        """
        if self._known is not None:
            return self._known
        if self._question is None or self._question.is_over:
            self._question = Question(self._look_up(timeouts))
        found = await self._question.answer()
        if isinstance(found, AttemptFailure):
            raise Failed(found)
        self._known = found
        return found

    def forget(self, model: str) -> None:
        """Ask again next time, where this is the model: it has gone."""
        if self._known == model:
            self._known = None
