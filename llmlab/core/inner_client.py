"""A client at work as another client's backend: one attempt out there is one whole call in here.

What a stack of clients is made of: `AsyncClient.session()`, the layers of `backends/layer.py` and the targets of
`backends/fallback.py` are all this.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, Protocol

from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.chance import derived

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.core.backend import AttemptKey, AttemptStream, Outcome, Timeouts
    from llmlab.core.ledger import Ledger
    from llmlab.core.messages import LLMRequest


class ServesCalls(Protocol):
    """What an `AsyncClient` offers here."""

    @property
    def view(self) -> Any:
        """The simulated server's own view, or `None`."""
        ...

    async def serve(self, request: LLMRequest, number: int, parent: AttemptKey) -> Outcome:
        """Make one call of this number for another client's attempt."""
        ...

    def serve_stream(self, request: LLMRequest, number: int, parent: AttemptKey) -> AttemptStream:
        """Make one streamed call of this number for another client's attempt."""
        ...

    async def aclose(self) -> None:
        """Close the backend behind."""
        ...


class InnerClient:
    """A client, and the model that it asks for whatever the request says; `None` leaves that to the request."""

    def __init__(self, client: ServesCalls, model: str | None = None) -> None:
        self.client = client
        self._model = model
        self._asked: tuple[LLMRequest, LLMRequest] | None = None  # a request, and what was made of it

    @property
    def view(self) -> Any:
        """The simulated server's own view, where the backend behind has one; else `None`."""
        return self.client.view

    async def attempt(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> Outcome:
        """Make one call; its result is the outcome of the attempt outside."""
        del timeouts  # the client outside has its own, and this one too
        return await self.serve(request, derived(key.call, key.attempt), key)

    def stream(self, request: LLMRequest, *, timeouts: Timeouts, key: AttemptKey) -> AttemptStream:
        """Make one streamed call; its text and its result are those of the attempt outside."""
        del timeouts
        return self.serve_stream(request, derived(key.call, key.attempt), key)

    async def serve(self, request: LLMRequest, number: int, parent: AttemptKey) -> Outcome:
        """Make the call of this number for the attempt outside."""
        return await self.client.serve(self._with_model(request), number, parent)

    def serve_stream(self, request: LLMRequest, number: int, parent: AttemptKey) -> AttemptStream:
        """Make the streamed call of this number for the attempt outside."""
        return self.client.serve_stream(self._with_model(request), number, parent)

    def _with_model(self, request: LLMRequest) -> LLMRequest:
        if self._model is None:
            return request
        if self._asked is None or self._asked[0] is not request:  # a workload asks the same ones again and again
            self._asked = request, request.model_copy(update={"model": self._model})
        return self._asked[1]

    async def aclose(self) -> None:
        """Close the backend behind."""
        await self.client.aclose()


def as_outcome(ledger: Ledger) -> Outcome:
    """Return a call as the outcome of the attempt outside that it served."""
    result = ledger.result()
    if result.ok:
        first_token = result.time_to_first_token
        if first_token is not None:  # from the outer attempt's start, so what went before in here counts too
            first_token += ledger.attempt_started - ledger.started
        return Answer(result.text, result.model, result.usage, result.finish_reason, first_token)
    return AttemptFailure(
        result.reason, result.message, result.status_code, result.retry_after, result.cause, result.retryable
    )


def unlike(name: str, taken: Sequence[str]) -> str:
    """Return the name, with the first number from 2 that makes it unlike those that are taken, if it is: `sdk-2`."""
    names = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(one for one in names if one not in taken)
