"""The faults of a backend: how probable each kind is, always or at certain times.

One vocabulary (`fault_kinds.py`) for the simulated server (`mock.py`) and for any backend (`WithFaults` in
`with_faults.py`). At most one fault befalls an attempt; which one is decided by a single keyed draw, so raising one
probability leaves the other attempts' fate as it was wherever it can.
"""

from __future__ import annotations

from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, Field

from llmlab.backends.fault_kinds import FAULT_SHORTHANDS, FAULTS, SPOILS_THE_ANSWER, FaultKind, faults_table
from llmlab.backends.fault_schedule import Kind, Scheduled, Weather, as_schedule
from llmlab.core.backend import Answer, AttemptFailure
from llmlab.core.checks import unusable
from llmlab.core.settings import Settings, SettingsError
from llmlab.core.vocabulary import FailureReason, FinishReason

if TYPE_CHECKING:
    from collections.abc import Callable

    from llmlab.core.messages import LLMRequest

__all__ = [
    "FAULTS",
    "FAULT_SHORTHANDS",
    "SPOILS_THE_ANSWER",
    "FaultKind",
    "Faults",
    "drawn",
    "faults_table",
    "refused",
    "spoilt",
    "with_fault_shorthands",
    "with_spoilt_text",
]


def _probability(kind: FaultKind) -> Any:
    return Field(default=0.0, ge=0, le=1, description=FAULTS[kind].meaning)


class Faults(Settings):
    """How probable each fault is, per attempt, from 0 to 1; together 1 at the most.

        Faults(server_error=0.01, schedule=[Window(kind="overload", start=20, end=30)])

    What is scheduled comes first, in the order given; only an attempt that it spares can meet a fault of those that
    are always possible. `retry_after` is the Retry-After, in seconds, that comes with the refusals named in
    `retry_after_with`; `None` sends none.
    """

    timeout: float = _probability(FaultKind.TIMEOUT)
    connection_error: float = _probability(FaultKind.CONNECTION_ERROR)
    rate_limit: float = _probability(FaultKind.RATE_LIMIT)
    overload: float = _probability(FaultKind.OVERLOAD)
    server_error: float = _probability(FaultKind.SERVER_ERROR)
    empty: float = _probability(FaultKind.EMPTY)
    malformed: float = _probability(FaultKind.MALFORMED)
    truncated: float = _probability(FaultKind.TRUNCATED)
    connect_stall: float = _probability(FaultKind.CONNECT_STALL)
    bad_gateway: float = _probability(FaultKind.BAD_GATEWAY)
    gateway_timeout: float = _probability(FaultKind.GATEWAY_TIMEOUT)
    error_in_stream: float = _probability(FaultKind.ERROR_IN_STREAM)
    stall: float = _probability(FaultKind.STALL)
    slow_drip: float = _probability(FaultKind.SLOW_DRIP)
    cut: float = _probability(FaultKind.CUT)
    no_end_marker: float = _probability(FaultKind.NO_END_MARKER)
    invalid_json: float = _probability(FaultKind.INVALID_JSON)
    wrong_schema: float = _probability(FaultKind.WRONG_SCHEMA)
    refusal: float = _probability(FaultKind.REFUSAL)
    reset: float = _probability(FaultKind.RESET)
    wrong_content_type: float = _probability(FaultKind.WRONG_CONTENT_TYPE)
    invalid_utf8: float = _probability(FaultKind.INVALID_UTF8)
    malformed_chunk: float = _probability(FaultKind.MALFORMED_CHUNK)
    huge_line: float = _probability(FaultKind.HUGE_LINE)
    schedule: Annotated[
        tuple[Scheduled, ...], BeforeValidator(as_schedule, json_schema_input_type=tuple[Scheduled, ...] | Scheduled)
    ] = ()
    """`Window`, `Burst` and `Ramp` entries: faults that come and go."""
    retry_after: float | None = Field(default=None, ge=0)
    retry_after_with: tuple[Kind, ...] = (FaultKind.RATE_LIMIT, FaultKind.OVERLOAD)
    slow_drip_factor: float = Field(default=10.0, ge=1)
    """How many times as slow a `slow_drip` is."""

    def model_post_init(self, _context: Any) -> None:
        """Refuse probabilities that add up to more than 1, and a Retry-After on what is no refusal."""
        total = sum(getattr(self, kind) for kind in FaultKind)
        if total > 1 + 1e-12:
            raise ValueError(f"the fault probabilities must add up to 1 or less, got {total:g}")
        for kind in self.retry_after_with:
            if FAULTS[kind].place != "refusal":
                refusals = ", ".join(kind for kind, row in FAULTS.items() if row.place == "refusal")
                raise ValueError(f"retry_after_with: '{kind}' sends no headers; valid: {refusals}")

    def thresholds(self) -> tuple[tuple[float, FaultKind], ...]:
        """Return the division of (0, 1): the first threshold above a draw names the fault; beyond the last, none."""
        likely = [(getattr(self, kind), kind) for kind in FaultKind if getattr(self, kind)]
        return tuple(zip(accumulate(p for p, _ in likely), (kind for _, kind in likely), strict=True))

    def drawing(self, seed: int, clock: Callable[[], float]) -> Callable[[float], FaultKind | None] | None:
        """Return the function from a uniform draw to the fault it means; `None` where there are no faults.

        Args:
            seed: fixes when bursts come.
            clock: the event loop's; a schedule's times count from this moment on.
        """
        thresholds = self.thresholds()
        if not self.schedule:
            return partial(drawn, thresholds) if thresholds else None
        weather, began = Weather(self.schedule, seed), clock()

        def fault(u: float) -> FaultKind | None:
            kind, rest = weather.fault_at(clock() - began, u)
            return drawn(thresholds, rest) if kind is None else kind

        return fault


def drawn(thresholds: tuple[tuple[float, FaultKind], ...], u: float) -> FaultKind | None:
    """Return the fault that a uniform draw from (0, 1) means, if any."""
    for threshold, kind in thresholds:
        if u < threshold:
            return kind
    return None


_WORDS = {
    FaultKind.CONNECTION_ERROR: "connection refused",
    FaultKind.RATE_LIMIT: "too many requests",
    FaultKind.OVERLOAD: "server busy",
    FaultKind.SERVER_ERROR: "internal server error",
    FaultKind.BAD_GATEWAY: "bad gateway",
    FaultKind.GATEWAY_TIMEOUT: "gateway timeout",
    FaultKind.RESET: "connection reset",
}
_REFUSALS = {
    kind: AttemptFailure(FAULTS[kind].reason, f"injected fault: {said}", FAULTS[kind].status_code)
    for kind, said in _WORDS.items()
}


def refused(kind: FaultKind, faults: Faults | float | None = None) -> AttemptFailure:
    """Return what an attempt meets that this fault refuses.

    Args:
        kind: a refusal, `connection_error` or `reset`.
        faults: which refusals bring a Retry-After; a number stands for `Faults(retry_after=number)`.
    """
    failure = _REFUSALS[kind]
    settings = faults if isinstance(faults, Faults) else Faults(retry_after=faults)
    if settings.retry_after is None or kind not in settings.retry_after_with:
        return failure
    return failure._replace(retry_after=settings.retry_after)


def spoilt(kind: FaultKind, request: LLMRequest, answer: Answer) -> Answer | AttemptFailure:
    """Return an answer as a client meets it that this fault of its text befell, where it is one.

    Malformed text can only be told by a `response_format`; where the request has none, it is reported as what it is.
    """
    if kind is FaultKind.MALFORMED and request.response_format is None:
        return AttemptFailure(FailureReason.MALFORMED_OUTPUT, "injected fault: the text is not what was asked for")
    return with_spoilt_text(kind, request, answer)


def with_spoilt_text(kind: FaultKind, request: LLMRequest, answer: Answer) -> Answer:
    """Return an answer as this fault of its text leaves it; another kind of fault leaves it as it is."""
    half = answer.text[: len(answer.text) // 2]
    match kind:
        case FaultKind.EMPTY:
            return answer._replace(text="")
        case FaultKind.TRUNCATED:
            return answer._replace(text=half or "...", finish_reason=FinishReason.LENGTH)
        case FaultKind.REFUSAL:
            return answer._replace(text="", finish_reason=FinishReason.CONTENT_FILTER)
        case FaultKind.MALFORMED:
            return answer._replace(text=half + "\x00}{")
        case FaultKind.INVALID_JSON if request.response_format is not None:
            return answer._replace(text=f"Here is the JSON you asked for:\n```json\n{answer.text}\n```")
        case FaultKind.WRONG_SCHEMA if request.response_format is not None:
            return answer._replace(text=_of_another_shape(request, answer))
    return answer


def _of_another_shape(request: LLMRequest, answer: Answer) -> str:
    """Return JSON that does not fit the request's format; the answer's own where everything fits."""
    for text in ('{"unexpected": true}', "[]", "0", '"text"', "null"):
        if unusable(request, answer._replace(text=text))[0] is not None:
            return text
    return answer.text


def with_fault_shorthands(data: Any) -> Any:
    """Fold `timeout_probability` and its like into `faults`; where both name the same fault, the shorthand wins."""
    if not isinstance(data, dict):
        return data
    given = {FAULT_SHORTHANDS[name]: value for name, value in data.items() if name in FAULT_SHORTHANDS}
    if not given:
        return data
    rest = {name: value for name, value in data.items() if name not in FAULT_SHORTHANDS}
    faults = rest.get("faults", Faults())
    if isinstance(faults, dict):
        faults = Faults(**faults)
    if not isinstance(faults, Faults):
        raise SettingsError(f"faults must be a Faults or a dict, got a {type(faults).__name__}")
    for name, value in data.items():
        if name in FAULT_SHORTHANDS:
            _check_shorthand(name, value)
    return {**rest, "faults": faults.replace(**given)}


def _check_shorthand(name: str, value: Any) -> None:
    """Refuse a wrong probability under the name by which it was given."""
    kind = FAULT_SHORTHANDS[name]
    try:
        Faults(**{kind: value})
    except SettingsError as error:
        raise SettingsError(name + str(error).removeprefix(kind)) from None
