"""A client that reads an answer as a simulated server with a queue writes it: a visit, with a client's patience added.

The server's tokens come when its machine writes them (`served_visit.py`), so how far apart they are depends on the
load. What the client meets at the end is what it would meet of the whole answer (`fault_effects.py`).
"""

from __future__ import annotations

from contextlib import aclosing
from math import inf
from typing import TYPE_CHECKING

from llmlab.backends.fault_effects import WHOLE, Timing, breaks_at, met, no_first_byte, stalled, timing
from llmlab.backends.faults import FAULTS, FaultKind, spoilt
from llmlab.backends.token_stream import Piece, coming, pieces
from llmlab.backends.waiting import wait_until
from llmlab.core.backend import Answer

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import AsyncGenerator, Iterable, Iterator

    from llmlab.backends.faults import Faults
    from llmlab.backends.served_visit import ServedVisit
    from llmlab.core.backend import Outcome, Timeouts
    from llmlab.core.messages import LLMRequest
    from llmlab.core.streams import Steps


class ServedReader:
    """One attempt that reads a visit's text as it comes.

    Args:
        visit: every token of which is watched.
        request: what was asked.
        timeouts: the client's bounds on the phases.
        faults: the settings of the faults.
        loop: the running event loop.
    """

    def __init__(
        self, visit: ServedVisit, request: LLMRequest, *, timeouts: Timeouts, faults: Faults, loop: AbstractEventLoop
    ) -> None:
        self._visit = visit
        self._request = request
        self._timeouts = timeouts
        self._faults = faults
        self._loop = loop
        self._first_token: float | None = None
        answer = visit.answer
        told = answer if visit.fault is None else spoilt(visit.fault, request, answer)
        text = told.text if isinstance(told, Answer) else answer.text
        self._left: Iterator[str] = iter(pieces(text, answer.usage.output_tokens))

    async def steps(self) -> Steps:
        """Yield the pieces of text and, last, the outcome; the server is left with the last of them, or before."""
        visit = self._visit
        try:
            try:
                async with aclosing(self._while_it_is_written()) as written:
                    async for piece in written:
                        yield piece
            except TimeoutError:
                yield (no_first_byte if self._first_token is None else stalled)(self._timeouts)
                return
            took = visit.at - visit.began
            answer = visit.answer
            if answer.time_to_first_token is None:
                answer = answer._replace(time_to_first_token=self._first_token)
            when = timing(self._first_token or 0.0, took, answer.usage.output_tokens)
            outcome, end = met(visit.fault, self._request, answer, when, timeouts=self._timeouts, faults=self._faults)
            for after, text in self._when_it_is_complete(answer, when, outcome, end):
                await wait_until(self._loop, visit.began + after)
                yield text
            if end > took:
                await wait_until(self._loop, visit.began + end)
            yield outcome
        finally:
            visit.leave()

    async def _while_it_is_written(self) -> AsyncGenerator[str, None]:
        """Yield what the fault lets through until the server has ended; TimeoutError where patience runs out."""
        visit, bounds = self._visit, self._timeouts
        due = visit.began + (inf if bounds.first_byte is None else bounds.first_byte)
        while await visit.token(due):
            first = self._first_token is None
            if first:
                self._first_token = visit.at - visit.began
            if first or visit.fault is not FaultKind.SLOW_DRIP:
                piece = next(self._left, "")
                if piece and visit.fault is not FaultKind.WRONG_CONTENT_TYPE:
                    yield piece
            due = visit.at + (inf if bounds.between_chunks is None else bounds.between_chunks)
            if visit.fault is FaultKind.STALL:
                await wait_until(self._loop, due)
                raise TimeoutError

    def _when_it_is_complete(self, answer: Answer, when: Timing, outcome: Outcome, end: float) -> Iterable[Piece]:
        """Return the pieces that the server's end brings, or that a slow drip has yet to bring."""
        fault = self._visit.fault
        if fault is FaultKind.SLOW_DRIP:
            dripped = coming(answer, when, outcome, end, fault=fault, faults=self._faults)
            return list(dripped)[1:]
        whole = fault is None or FAULTS[fault].place == "text" or breaks_at(fault, WHOLE) == WHOLE.end
        return [Piece(0.0, text) for text in self._left if text] if whole else ()
