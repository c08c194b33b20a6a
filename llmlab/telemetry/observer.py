"""`OpenTelemetryObserver`: a span for each call, a child for each attempt, and histograms, from events.

An event comes when its attempt or call is over, so a call's spans are made then, with the times that the events say. A
call that serves another client's attempt is kept until the outermost call has ended, and becomes a child of that
attempt's span. Because spans are made afterwards, nothing that the backend does (an instrumented httpx, say) can be a
child of them.

What is current in the caller's context when `generate` is called, is the parent: a call is recorded in the task of its
caller, or for sync clients in a copy of the caller's context. Look next at `mapping.py`: what becomes of which field.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab import __version__
from llmlab.core.settings import SettingsError
from llmlab.core.vocabulary import FailureReason
from llmlab.telemetry.mapping import ATTEMPT_MAPPING, CALL_MAPPING, METRICS, Metric, attributes
from llmlab.virtual_time import VirtualLoop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from opentelemetry.context import Context
    from opentelemetry.metrics import Histogram, MeterProvider
    from opentelemetry.trace import Span, TracerProvider

    from llmlab.core.events import AttemptEvent, CallEvent
    from llmlab.telemetry.mapping import AttributeValue

_OPERATION = "chat"
_KEPT = 1024
"""The most attempts whose inner calls are kept, waiting for the outermost to end."""


class _Call(NamedTuple):
    """A call that has ended: its event, those of its attempts, and what was current where it was made."""

    event: CallEvent
    attempts: list[AttemptEvent]
    context: Context


class OpenTelemetryObserver:
    """Tell OpenTelemetry of every call and attempt. Needs `pip install "llmlab[otel]"`.

        client = LocalLLM(model="llama3.2", observers=[OpenTelemetryObserver(model="llama3.2")])

    Give each client an observer of its own: calls are told apart by their number and layer only. Making one costs
    nothing, since they share the provider's instruments.

    Args:
        tracer_provider: makes the spans; `None` means the global one.
        meter_provider: makes the histograms; `None` means the global one.
        model: the model that is asked, as `gen_ai.request.model` and in the names of spans. Events do not say it.
        server_address: host of the server, as `server.address`.
        server_port: port of the server, as `server.port`.
        virtual_epoch: what the time 0 of a simulation means, in seconds since 1970. Spans in virtual time are counted
            from there, so that the same run gives the same times; in real time they have the time of the wall clock.

    Raises:
        SettingsError: OpenTelemetry's API is not installed, or `virtual_epoch` is no finite number.
        TypeError: a provider is none.
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        model: str | None = None,
        server_address: str | None = None,
        server_port: int | None = None,
        virtual_epoch: float = 0.0,
    ) -> None:
        _refuse_other("tracer_provider", tracer_provider, "get_tracer")
        _refuse_other("meter_provider", meter_provider, "get_meter")
        self._api = api = _opentelemetry()
        self._tracer = api.trace.get_tracer("llmlab", __version__, tracer_provider)
        meter = api.metrics.get_meter("llmlab", __version__, meter_provider)
        self._duration, self._first_chunk, self._tokens, self._attempt_duration = (
            _histogram(meter, metric) for metric in METRICS
        )
        self._name = f"{_OPERATION} {model}" if model else _OPERATION
        given = {"gen_ai.request.model": model, "server.address": server_address, "server.port": server_port}
        self._asked = {name: value for name, value in given.items() if value is not None}
        if not math.isfinite(virtual_epoch):
            raise SettingsError(f"virtual_epoch must be a number of seconds since 1970, got {virtual_epoch!r}")
        self._epoch_ns = round(virtual_epoch * 1e9)
        self._attempts: dict[tuple[str, int], list[AttemptEvent]] = {}
        self._inside: dict[tuple[int, int], list[_Call]] = {}

    def on_attempt(self, event: AttemptEvent) -> None:
        """Keep an attempt until its call has ended."""
        self._attempts.setdefault((event.layer, event.call), []).append(event)

    def on_call(self, event: CallEvent) -> None:
        """Make the spans of a call and of all that it brought about, or keep it until the outermost call has ended."""
        attempts = self._attempts.pop((event.layer, event.call), [])
        call = _Call(event, attempts, self._api.context.get_current())
        if event.parent_call < 0:
            self._record(call)
            return
        self._inside.setdefault((event.parent_call, event.parent_attempt), []).append(call)
        if len(self._inside) > _KEPT:  # nobody tells this observer of the clients outside
            self._record_all(next(iter(self._inside)))

    def close(self) -> None:
        """Make the spans of what is still kept: calls inside others that this observer is not told of."""
        while self._inside:
            self._record_all(next(iter(self._inside)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _record_all(self, key: tuple[int, int]) -> None:
        for call in self._inside.pop(key):
            self._record(call)

    # ---- spans

    def _record(self, call: _Call) -> None:
        """Make the spans of an outermost call, and count it."""
        inside = self._span_of(call, call.context, self._clock())
        event = call.event
        about = {**self._operation(call), **_error(event)}
        self._duration.record(event.ended_at_s - event.started_at_s, about, inside)
        first_chunk = _time_to_first_chunk(event)
        if not math.isnan(first_chunk):
            self._first_chunk.record(first_chunk, about, inside)

    def _span_of(self, call: _Call, context: Context, clock: Callable[[float], int]) -> Context:
        """Make the span of a call and those below it; return the context in which it is the current one."""
        event = call.event
        about = {**self._operation(call), **attributes(event, CALL_MAPPING)}
        about["llmlab.late_start_s"] = event.started_at_s - event.arrived_at_s
        first_chunk = _time_to_first_chunk(event)
        if not math.isnan(first_chunk):
            about["gen_ai.response.time_to_first_chunk"] = first_chunk
        span = self._started(self._name, context, about, clock(event.started_at_s))
        inside: Context = self._api.trace.set_span_in_context(span, context)
        for attempt in call.attempts:
            self._span_of_attempt(attempt, inside, clock)
        self._end(span, event, clock)
        return inside

    def _span_of_attempt(self, event: AttemptEvent, context: Context, clock: Callable[[float], int]) -> None:
        about = attributes(event, ATTEMPT_MAPPING)
        if event.attempt > 1:
            about["http.request.resend_count"] = event.attempt - 1
        span = self._started("attempt", context, about, clock(event.started_at_s))
        inside = self._api.trace.set_span_in_context(span, context)
        calls = self._inside.pop((event.call, event.attempt), ())
        for call in calls:
            self._span_of(call, inside, clock)
        if not calls:
            self._count_attempt(event, inside)
        self._end(span, event, clock)

    def _started(self, name: str, context: Context, about: Mapping[str, AttributeValue], at: int) -> Span:
        kind = self._api.trace.SpanKind.CLIENT
        span: Span = self._tracer.start_span(name, context, kind, about, start_time=at)
        return span

    def _end(self, span: Span, event: AttemptEvent | CallEvent, clock: Callable[[float], int]) -> None:
        if event.reason is not None and event.reason != FailureReason.CANCELLED:
            span.set_status(self._api.trace.StatusCode.ERROR)
        span.end(clock(event.ended_at_s))

    # ---- what is told of them

    def _operation(self, call: _Call) -> dict[str, AttributeValue]:
        about: dict[str, AttributeValue] = {"gen_ai.operation.name": _OPERATION, **self._asked}
        if call.attempts:  # else nothing was sent to anybody
            about["gen_ai.provider.name"] = self._provider(call.attempts[-1])
        return about

    def _provider(self, attempt: AttemptEvent) -> str:
        """Return what an attempt went to in the end, below all clients."""
        for call in reversed(self._inside.get((attempt.call, attempt.attempt), ())):
            if call.attempts:
                return self._provider(call.attempts[-1])
        return attempt.backend

    def _count_attempt(self, event: AttemptEvent, context: Context) -> None:
        about = {"gen_ai.operation.name": _OPERATION, "gen_ai.provider.name": event.backend, **self._asked}
        self._attempt_duration.record(event.ended_at_s - event.started_at_s, {**about, **_error(event)}, context)
        for kind, tokens in (("input", event.input_tokens), ("output", event.output_tokens)):
            if not math.isnan(tokens):
                self._tokens.record(int(tokens), {**about, "gen_ai.token.type": kind}, context)

    def _clock(self) -> Callable[[float], int]:
        """Return what turns a time of the running loop into nanoseconds since 1970. Differences stay what they are.

        The wall clock is asked anew for each call: it may be set, and a loop's clock stands still while a laptop
        sleeps. Events that are told outside of a loop (read from a file, say) are taken as simulated.
        """
        loop = asyncio._get_running_loop()
        offset = self._epoch_ns
        if loop is not None and not isinstance(loop, VirtualLoop):
            offset = time.time_ns() - round(loop.time() * 1e9)
        return lambda seconds: round(seconds * 1e9) + offset


def _refuse_other(name: str, provider: object, method: str) -> None:
    if provider is not None and not callable(getattr(provider, method, None)):
        raise TypeError(f"{name} must have a method {method}, as OpenTelemetry's has; got a {type(provider).__name__}")


def _histogram(meter: Any, metric: Metric) -> Histogram:
    made: Histogram = meter.create_histogram(
        metric.name, metric.unit, metric.meaning, explicit_bucket_boundaries_advisory=metric.bounds
    )
    return made


def _error(event: AttemptEvent | CallEvent) -> dict[str, AttributeValue]:
    return {} if event.reason is None else {"error.type": str(event.reason)}


def _time_to_first_chunk(event: CallEvent) -> float:
    """Return the time from the call's start, which an event counts from its arrival, to its first token."""
    return event.time_to_first_token_s - (event.started_at_s - event.arrived_at_s)


def _opentelemetry() -> Any:
    try:
        import opentelemetry.context  # noqa: PLC0415 - an extra: llmlab works without it
        import opentelemetry.metrics  # noqa: PLC0415
        import opentelemetry.trace  # noqa: PLC0415
    except ImportError:
        message = 'OpenTelemetryObserver needs OpenTelemetry; install it with: pip install "llmlab[otel]"'
        raise SettingsError(message) from None
    return opentelemetry
