"""What a request is to a simulated server that queues: how much it will write, and how much work that is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from llmlab.backends.server_job import Job
from llmlab.core.chance import unit
from llmlab.core.messages import Usage
from llmlab.core.vocabulary import FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.backends.distributions import Distribution
    from llmlab.backends.faults import Faults
    from llmlab.backends.server_model import ServerModel
    from llmlab.core.messages import LLMRequest

    Draws = tuple[int, int, int, int, int, int, int, int]


class Simulation(Protocol):
    """What the simulated servers need of a `MockBackend`'s settings."""

    latency: Distribution
    refusal_latency: Distribution
    first_token_share: float
    faults: Faults
    seed: int
    model: str
    text: Any
    script: tuple[Any, ...]


class Size(NamedTuple):
    """What the server will write for a request."""

    text: str
    usage: Usage
    finish_reason: FinishReason


class RequestWork:
    """From requests and their draws to sizes and jobs."""

    def __init__(
        self, settings: Simulation, model: ServerModel, compose: Callable[[LLMRequest], tuple[str, Usage]]
    ) -> None:
        self._name, self._first_token_share = settings.model, settings.first_token_share
        self._model, self._length = model, model.output_tokens
        self._service = (model.service_time or settings.latency).at
        self._compose = compose
        self._composed: LLMRequest | None = None
        self._natural = Size("", Usage(0, 0), FinishReason.STOP)

    def size(self, request: LLMRequest, draws: Draws) -> Size:
        """Return what will be written, `max_tokens` kept."""
        if request is not self._composed:  # the same request again (a workload's) has the same text and tokens
            self._natural = Size(*self._compose(request), FinishReason.STOP)
            self._composed = request
        size = self._natural
        length, limit = self._length, request.max_tokens
        if length is None and limit is None:
            return size
        read, natural = size.usage
        wanted = natural or 1 if length is None else max(1, round(length.at(unit(draws[2]))))
        if limit is None or wanted <= limit:
            return Size(size.text, Usage(read, wanted), FinishReason.STOP)
        text = size.text[: max(1, len(size.text) * limit // wanted)]
        return Size(text, Usage(read, limit), FinishReason.LENGTH)

    def job(self, request: LLMRequest, usage: Usage, draws: Draws) -> Job:
        """Return the work of a request of this size, by the law of service (`server_model.py`)."""
        model = self._model
        steps = max(1, (usage.output_tokens or 1) - 1)  # from the first token to the last
        if model.decode_rate is None:
            total = self._service(unit(draws[1]))
            first = total * self._first_token_share
        else:
            step = 1.0 / model.decode_rate
            first = step if model.time_to_first_token is None else step + model.time_to_first_token.at(unit(draws[4]))
            if model.prefill_rate is not None:
                first += (usage.input_tokens or 0) / model.prefill_rate
            total = first + ((usage.output_tokens or 1) - 1) * step
        load = 0.0 if model.load_time is None else model.load_time.at(unit(draws[3]))
        return Job(request.model or self._name, first, total, (total - first) / steps, load)
