"""Made-up events that look like a client's: enough shape for tables and charts, without a client."""

import numpy as np
import pandas as pd

from llmlab.analysis.frames import attempts_frame, calls_frame, concat_frames
from llmlab.core.event_log import EventLog
from llmlab.core.events import NAN, AttemptEvent, CallEvent
from llmlab.core.vocabulary import BackoffSource, FailureReason, Fate, FinishReason

TIMEOUT = "backend.timeout_probability"
RETRIES = "policy.retry.max_retries"


def log_of_run(
    count: int, *, timeout: float = 0.2, overload: float = 0.05, max_retries: int = 2, seed: int = 0, rate: float = 2.0
) -> EventLog:
    """Return the events of `count` calls that arrive `rate` times a second."""
    random = np.random.default_rng(seed)
    log = EventLog()
    arrivals = np.cumsum(random.exponential(1 / rate, count))
    for call, arrival in enumerate(arrivals):
        _one_call(log, random, call, float(arrival), timeout=timeout, overload=overload, max_retries=max_retries)
    return log


def frames_of_sweep(
    timeouts=(0.0, 0.1, 0.2, 0.3, 0.4), retries=(0, 1, 3), count=200
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return attempts and calls of a sweep over the timeout probability and `max_retries`."""
    points = [{TIMEOUT: timeout, RETRIES: retry} for timeout in timeouts for retry in retries]
    logs = [
        log_of_run(count, timeout=point[TIMEOUT], max_retries=point[RETRIES], seed=number)
        for number, point in enumerate(points)
    ]
    return (
        concat_frames([attempts_frame(log) for log in logs], points),
        concat_frames([calls_frame(log) for log in logs], points),
    )


def _one_call(log, random, call, arrival, *, timeout, overload, max_retries):
    now, waits = arrival, {"slot": 0.0, "rate": 0.0, "server": 0.0, "backoff": 0.0}
    reason = None
    for number in range(1, max_retries + 2):
        slot_wait = float(random.exponential(0.4)) if random.random() < 0.4 else 0.0
        rate_wait = float(random.exponential(0.5)) if random.random() < 0.2 else 0.0
        reason, latency = _outcome(random, timeout, overload)
        retried = reason not in (None, FailureReason.INVALID_REQUEST) and number <= max_retries
        backoff = float(random.uniform(0.1, 0.5 * 2**number)) if retried else NAN
        start = now + slot_wait + rate_wait
        times = {
            "queued_at_s": now,
            "slot_wait_s": slot_wait,
            "rate_wait_s": rate_wait,
            "started_at_s": start,
            "ended_at_s": start + latency,
            "backoff_s": backoff,
        }
        log.on_attempt(_attempt(call, number, reason, times))
        waits["slot"] += slot_wait
        waits["rate"] += rate_wait
        waits["server"] += latency
        now = start + latency
        if np.isnan(backoff):
            break
        waits["backoff"] += backoff
        now += backoff
    log.on_call(_call(call, (arrival, now), reason, number, waits))


def _outcome(random, timeout, overload):
    draw = random.random()
    if draw < timeout:
        return FailureReason.ATTEMPT_TIMEOUT, 3.0
    if draw < timeout + overload:
        return FailureReason.OVERLOADED, 0.05
    if draw < timeout + overload + 0.01:
        return FailureReason.INVALID_REQUEST, 0.04
    return None, float(random.lognormal(-0.3, 0.5))


def _attempt(call, number, reason, times):
    return AttemptEvent(
        layer="client",
        call=call,
        attempt=number,
        backend="mock",
        hedge=False,
        time_to_first_token_s=NAN if reason else (times["ended_at_s"] - times["started_at_s"]) / 3,
        reason=reason,
        status_code=503 if reason == FailureReason.OVERLOADED else 200,
        retry_after_s=NAN,
        input_tokens=NAN if reason else 20.0,
        output_tokens=NAN if reason else 50.0,
        finish_reason=None if reason else FinishReason.STOP,
        backoff_source=None if np.isnan(times["backoff_s"]) else BackoffSource.BACKOFF,
        **times,
    )


def _call(call, span, reason, attempts, waits):
    arrival, end = span
    failed = Fate.NOT_RETRYABLE if reason == FailureReason.INVALID_REQUEST else Fate.RETRIES_EXHAUSTED
    return CallEvent(
        layer="client",
        call=call,
        parent_call=-1,
        parent_attempt=0,
        arrived_at_s=arrival,
        started_at_s=arrival,
        ended_at_s=end,
        fate=failed if reason else Fate.ANSWERED,
        reason=reason,
        last_reason=reason,
        attempts=attempts,
        slot_wait_s=waits["slot"],
        rate_wait_s=waits["rate"],
        server_s=waits["server"],
        backoff_s=waits["backoff"],
        time_to_first_token_s=NAN if reason else end - arrival - 0.1,
        input_tokens=NAN if reason else 20.0,
        output_tokens=NAN if reason else 50.0,
        finish_reason=None if reason else FinishReason.STOP,
    )
