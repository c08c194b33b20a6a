"""What a backend keeps for each event loop: its connections, or its simulated server."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from typing import Any, TypeVar

T = TypeVar("T")


class PerLoop(dict[AbstractEventLoop, T]):
    """A backend's sessions, by event loop. They are no part of its value: neither compared, nor copied, nor pickled."""

    def put(self, loop: AbstractEventLoop, session: T) -> T:
        """Keep a session, and forget those of loops that are closed."""
        for other in [other for other in self if other.is_closed()]:
            del self[other]
        self[loop] = session
        return session

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PerLoop)

    __hash__ = None

    def __reduce__(self) -> tuple[type[PerLoop[Any]], tuple[()]]:
        return PerLoop, ()
