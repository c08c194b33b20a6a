"""What goes into a call and what comes out: `LLMRequest`, and `LLMResponse` or `LLMFailure`.

A call's outcome is a value. What can be expected to go wrong is an `LLMFailure` and never an exception; `unwrap()`
turns it into one for those who want it. Results do not hold the request, and no repr shows a prompt or an answer
(`hidden.py`). Look next at `vocabulary.py` (the reasons) and `backend.py` (what a backend gives back for one attempt).
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, Field, StringConstraints, model_validator

from llmlab.core.display import card, laid_out
from llmlab.core.hidden import hidden
from llmlab.core.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlab.core.vocabulary import FailureReason, Fate, FinishReason


class Message(Settings):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        return [("role", self.role), ("content", hidden(self.content))]


_PRIVATE = frozenset({"prompt", "system", "stop", "metadata"})
"""The fields of a request that hold the user's own words, beside the messages, which hide their content themselves."""


def _as_tuple(value: object) -> object:
    return (value,) if isinstance(value, str) else value


def _as_response_format(value: object) -> object:
    if value in (None, "json") or isinstance(value, dict) or (isinstance(value, type) and issubclass(value, BaseModel)):
        return value
    got = repr(value) if isinstance(value, str) else f"a {type(value).__name__}"
    raise ValueError(f"must be 'json', a JSON schema as a dict, or a pydantic model, got {got}")


class LLMRequest(Settings):
    """What to ask a model. Give either `prompt` or `messages`.

    Args:
        prompt: the text to answer. An empty or blank one is accepted here and fails the call with `empty_prompt`,
            before anything is sent.
        model: the model's name; `None` means the backend's default.
        system: instructions that stand before the prompt or the messages.
        messages: a conversation, as `{"role": ..., "content": ...}` with the roles system, user, assistant, tool.
        max_tokens: the most tokens to write; `None` leaves it to the server.
        temperature: 0 or more; `None` leaves it to the server.
        stop: one text or several at which the model stops.
        response_format: `"json"`, a JSON schema as a dict, or a pydantic model; the answer is validated against it and
            the object stands in `LLMResponse.parsed`.
        seed: fixes the server's sampling where it can; each retry after malformed output adds 1 to it.
        metadata: your own labels, which stay with your request: they are neither sent nor recorded.

    Raises:
        SettingsError: a field has a wrong type or value, or neither or both of `prompt` and `messages` are given.
    """

    prompt: str | None = None
    model: Annotated[str, StringConstraints(min_length=1)] | None = None
    system: str | None = None
    messages: tuple[Message, ...] | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0)
    stop: (
        Annotated[tuple[str, ...], BeforeValidator(_as_tuple, json_schema_input_type=str | tuple[str, ...])] | None
    ) = None
    response_format: Annotated[
        Literal["json"] | dict[str, Any] | type[BaseModel] | None,
        BeforeValidator(_as_response_format, json_schema_input_type=Literal["json"] | dict[str, Any] | None),
    ] = None
    seed: int | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)

    if TYPE_CHECKING:  # wider than the fields: what is taken, not what is kept

        def __init__(
            self,
            *,
            prompt: str | None = None,
            model: str | None = None,
            system: str | None = None,
            messages: Sequence[Message | Mapping[str, str]] | None = None,
            max_tokens: int | None = None,
            temperature: float | None = None,
            stop: str | Sequence[str] | None = None,
            response_format: Literal["json"] | dict[str, Any] | type[BaseModel] | None = None,
            seed: int | None = None,
            metadata: Mapping[str, Any] = ...,
        ) -> None: ...

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.prompt is None and self.messages is None:
            raise ValueError("LLMRequest needs a prompt or messages, got neither")
        if self.prompt is not None and self.messages is not None:
            raise ValueError("LLMRequest takes a prompt or messages, got both; put the prompt last into messages")
        return self

    @property
    def is_blank(self) -> bool:
        """Whether there is nothing to answer: an empty or blank prompt, or no message with content."""
        prompt = self.prompt
        if prompt is not None:
            return not prompt or prompt.isspace()
        return not any(message.content.strip() for message in self.messages or ())

    @property
    def characters(self) -> int:
        """The length of everything that the model reads, in characters."""
        return sum(map(len, (self.prompt or "", self.system or "", *(m.content for m in self.messages or ()))))

    def conversation(self) -> list[dict[str, str]]:
        """Return the request as a list of messages: the system text, then the messages or the prompt."""
        turns = [{"role": "system", "content": self.system}] if self.system is not None else []
        if self.messages is None:
            return [*turns, {"role": "user", "content": self.prompt or ""}]
        return [*turns, *({"role": message.role, "content": message.content} for message in self.messages)]

    def json_schema(self) -> Literal["json"] | dict[str, Any] | None:
        """Return the response format as a server takes it: `"json"`, a JSON schema, or `None`."""
        wanted = self.response_format
        return deepcopy(schema_of(wanted)) if isinstance(wanted, type) else wanted

    def __repr_args__(self) -> list[tuple[str | None, Any]]:
        given = ((name, getattr(self, name)) for name in type(self).model_fields if name in self.model_fields_set)
        return [(name, hidden(value) if name in _PRIVATE else value) for name, value in given]


class Usage(NamedTuple):
    """Tokens read and written, as the server counted them; `None` where it did not say."""

    input_tokens: int | None = None
    output_tokens: int | None = None


class LLMError(RuntimeError):
    """Raised by `LLMFailure.unwrap()`; the failure stands in `failure`."""

    def __init__(self, failure: LLMFailure) -> None:
        super().__init__(f"{failure.reason}: {failure.message}")
        self.failure = failure

    def __reduce__(self) -> tuple[type[LLMError], tuple[LLMFailure]]:
        return type(self), (self.failure,)


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMResponse:
    """An answered call.

    Attributes:
        text: what the model wrote.
        model: the model that answered, as the server names it.
        usage: tokens read and written.
        finish_reason: why the model stopped; `length` means that the text was cut at `max_tokens`.
        latency: seconds from the call to its end: waiting, all attempts and all backoff.
        time_to_first_token: seconds from the start of the answering attempt to its first token; `None` if unknown.
        attempts: how many attempts were made, the answering one included.
        parsed: the validated object where the request has a `response_format`.
        call: the call's number, as in the events.
    """

    text: str
    model: str
    usage: Usage
    finish_reason: FinishReason
    latency: float
    time_to_first_token: float | None
    attempts: int
    parsed: Any = None
    call: int = 0

    @property
    def ok(self) -> Literal[True]:
        """True: the call was answered."""
        return True

    def unwrap(self) -> LLMResponse:
        """Return this response; a failure raises here instead."""
        return self

    def __repr__(self) -> str:
        given = ((one.name, getattr(self, one.name)) for one in fields(self))
        return laid_out(
            "LLMResponse", [(name, hidden(value) if name in {"text", "parsed"} else value) for name, value in given]
        )

    def _repr_html_(self) -> str:
        return card(
            f"answered in {self.latency:.2f} s, {_count(self.attempts, 'attempt')}",
            {
                "text": f"{_count(len(self.text), 'character')}, in .text",
                "model": self.model,
                "finish reason": self.finish_reason,
                **_tokens(self.usage),
            }.items(),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMFailure:
    """A call that was not answered.

    Attributes:
        reason: what ended the call; see `vocabulary.REASONS`.
        retryable: whether the same request, sent again later, may be answered; also true when retries are exhausted.
        message: what happened and what to do, without the prompt or the model's text.
        fate: how the call ended; the fates of all calls add up.
        attempts: how many attempts were made; 0 where nothing was sent.
        latency: seconds from the call to its end.
        status_code: the last HTTP status that a server sent, or `None`.
        retry_after: the wait that the server asked for with its last refusal, in seconds, or `None`.
        last_reason: what the last attempt met, where the client itself ended the call; else the same as `reason`.
        partial_text: what a streamed call had handed out before it failed; no repr shows it.
        cause: the exception under it, where there was one.
        call: the call's number, as in the events.
    """

    reason: FailureReason
    retryable: bool
    message: str
    fate: Fate
    attempts: int
    latency: float
    status_code: int | None = None
    retry_after: float | None = None
    last_reason: FailureReason | None = None
    partial_text: str = field(default="", repr=False)
    cause: BaseException | None = field(default=None, repr=False, compare=False)
    call: int = 0

    @property
    def ok(self) -> Literal[False]:
        """False: the call was not answered."""
        return False

    if not TYPE_CHECKING:  # type checkers say by themselves that a failure has no text

        def __getattr__(self, name: str) -> Any:
            hint = f": the call was not answered ({self.reason}); look at `ok` first" if name in _OF_ANSWERS else ""
            raise AttributeError(f"'LLMFailure' object has no attribute '{name}'{hint}", name=name, obj=self)

    def unwrap(self) -> LLMResponse:
        """Raise this failure.

        Raises:
            LLMError: always; the failure stands in its `failure`.
        """
        raise LLMError(self) from self.cause

    def __repr__(self) -> str:
        shown = [(one.name, getattr(self, one.name)) for one in fields(self) if one.repr]
        return laid_out("LLMFailure", [(name, value) for name, value in shown if value is not None])

    def _repr_html_(self) -> str:
        rows = {"message": self.message, "retryable": "yes" if self.retryable else "no", "fate": self.fate}
        if self.status_code is not None:
            rows["status"] = str(self.status_code)
        if self.partial_text:
            rows["handed out"] = _count(len(self.partial_text), "character")
        return card(f"{self.reason} after {self.latency:.2f} s, {_count(self.attempts, 'attempt')}", rows.items())


_OF_ANSWERS = frozenset(one.name for one in fields(LLMResponse)) - {one.name for one in fields(LLMFailure)}


def _tokens(usage: Usage) -> dict[str, str]:
    return (
        {} if usage.output_tokens is None else {"tokens": f"{usage.input_tokens or '?'} in, {usage.output_tokens} out"}
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@lru_cache(maxsize=64)
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return a model's JSON schema, which is not to be changed: to make it takes longer than a simulated attempt."""
    return model.model_json_schema()


def to_request(given: LLMRequest | str) -> LLMRequest:
    """Return the request, made from a plain prompt where a text is given.

    Raises:
        TypeError: it is neither a request nor a text.
    """
    if isinstance(given, LLMRequest):
        return given
    if isinstance(given, str):
        return LLMRequest(prompt=given)
    raise TypeError(f"a request must be an LLMRequest or a str, got {type(given).__name__}")
