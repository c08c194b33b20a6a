"""Many requests at once, without one losing another's result."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from llmlab.core.display import card
from llmlab.core.messages import LLMFailure, LLMRequest, LLMResponse
from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Sequence


class Completed(NamedTuple):
    """One result of a batch: the request's place in it, the request, and what came of it."""

    position: int
    request: LLMRequest
    result: LLMResponse | LLMFailure


class Results(list["LLMResponse | LLMFailure"]):
    """The results of a batch, in order: a list, that shows how many calls were answered and why the others were not."""

    def __repr__(self) -> str:
        why = ", ".join(f"{number:,} {reason}" for reason, number in self._failed())
        answered = sum(result.ok for result in self)
        return f"<{len(self):,} results: {answered:,} answered{', ' if why else ''}{why}>"

    def _repr_html_(self) -> str:
        answered, latencies = sum(result.ok for result in self), sorted(result.latency for result in self)
        rows: list[tuple[str, object]] = [("answered", f"{answered:,} of {len(self):,}"), *self._failed()]
        if latencies:
            rows.append(("median latency", f"{latencies[len(latencies) // 2]:.3g} s"))
            rows.append(("longest latency", f"{latencies[-1]:.3g} s"))
        return card(f"{len(self):,} results", [*rows, ("attempts", f"{sum(one.attempts for one in self):,}")])

    def _failed(self) -> list[tuple[str, int]]:
        reasons = Counter(str(result.reason) for result in self if isinstance(result, LLMFailure))
        return reasons.most_common()


class Batch:
    """The calls of `generate_many`: awaitable (all, in order) and iterable with `async for` (each as it is completed).

    It begins when first awaited or iterated. Leaving the iteration early, or cancelling the wait, cancels what is
    still in progress; what is done stands in `results`. A bug in a backend lets the other calls end, and is then
    raised.
    """

    def __init__(
        self,
        generate: Callable[[LLMRequest], Awaitable[LLMResponse | LLMFailure]],
        requests: Sequence[LLMRequest],
        concurrency: int,
    ) -> None:
        self.results: list[LLMResponse | LLMFailure | None] = [None] * len(requests)
        """The results so far, in the order of the requests; `None` where there is none yet."""
        self._generate = generate
        self._requests = requests
        self._concurrency = concurrency
        self._begun = False

    def __await__(self) -> Generator[None, None, list[LLMResponse | LLMFailure]]:
        return self._all().__await__()

    async def _all(self) -> list[LLMResponse | LLMFailure]:
        return Results(done.result for done in sorted([done async for done in self], key=lambda done: done.position))

    async def __aiter__(self) -> AsyncIterator[Completed]:
        if self._begun:
            raise RuntimeError("a batch runs once; call generate_many again for another run")
        self._begun = True
        done: asyncio.Queue[Completed | BaseException] = asyncio.Queue()
        todo = iter(enumerate(self._requests))
        workers = [
            asyncio.create_task(self._work(todo, done), name=f"llmlab batch worker {number}")
            for number in range(min(self._concurrency, len(self._requests)))
        ]
        bug: BaseException | None = None
        try:
            for _ in self._requests:
                completed = await done.get()
                if isinstance(completed, Completed):
                    yield completed
                elif isinstance(completed, Exception):
                    bug = bug or completed
                else:
                    raise completed
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)
        if bug is not None:
            raise bug

    async def _work(self, todo: enumerate[LLMRequest], done: asyncio.Queue[Completed | BaseException]) -> None:
        """Make calls one after another; put exactly one entry into `done` for each."""
        for index, request in todo:
            task = asyncio.current_task()
            try:
                result = await self._generate(request)
            except asyncio.CancelledError:
                if task is not None and task.cancelling():
                    raise
                result = cancelled_failure()  # the backend's own cancellation of this one call
            except Exception as bug:  # noqa: BLE001 - raised by the iteration, once the other calls have ended
                done.put_nowait(bug)
                continue
            except (KeyboardInterrupt, SystemExit) as stop:
                done.put_nowait(stop)  # or the iteration would wait for this call for ever
                raise
            self.results[index] = result
            done.put_nowait(Completed(index, request, result))


def cancelled_failure() -> LLMFailure:
    """Return the result of a call of a batch that was cancelled while the batch went on."""
    return LLMFailure(
        reason=FailureReason.CANCELLED,
        retryable=False,
        message="the call was cancelled from inside while its batch went on",
        fate=Fate.CANCELLED,
        attempts=0,
        latency=0.0,
    )
