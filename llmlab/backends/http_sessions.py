"""The sessions of a backend that talks HTTP: one for each event loop, since connections belong to a loop."""

from __future__ import annotations

import asyncio
import threading
import weakref
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

S = TypeVar("S")


class Sessions(Generic[S]):
    """The sessions of a backend, by event loop. They are no part of its value: copies and pickles begin without any."""

    __slots__ = ("_by_loop", "_lock")

    def __init__(self) -> None:
        self._by_loop: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, S] = weakref.WeakKeyDictionary()
        self._lock = threading.Lock()  # loops of several threads may ask at once

    def of_running_loop(self, new: Callable[[], S]) -> S:
        """Return the running event loop's session, made by `new` where it has none yet.

        Raises:
            RuntimeError: no event loop is running.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            session = self._by_loop.get(loop)
            if session is None:
                # Open connections hold their loop, so a weak key alone would never let a closed loop go.
                for other in [known for known in self._by_loop if known.is_closed()]:
                    del self._by_loop[other]
                session = self._by_loop[loop] = new()
            return session

    def __reduce__(self) -> tuple[type[Sessions[Any]], tuple[()]]:
        return Sessions, ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sessions)

    def __hash__(self) -> int:
        return hash(Sessions)
