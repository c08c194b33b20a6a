"""`llmlab demo`: some calls to a misbehaving simulated server, attempt by attempt, and what retries did about it.

It uses what any program would: `MockLLM` or `AsyncMockLLM`, and an observer that writes as things happen. Chance is
keyed by call and attempt, so both clients make the same attempts; the async one only overlaps them.
"""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from llmlab import virtual_time
from llmlab.backends.faults import FaultKind, Faults
from llmlab.cli.console import BAD, GOOD, HEAD, POOR, ends_with_a_code, say, say_table, say_text
from llmlab.core.messages import LLMRequest, LLMResponse
from llmlab.core.policy import ClientPolicy
from llmlab.core.vocabulary import BackoffSource, Fate
from llmlab.llms import AsyncMockLLM, MockLLM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.core.events import AttemptEvent, CallEvent
    from llmlab.core.messages import LLMFailure

# What befalls the attempts that do not time out; shares of those, so that any timeout probability leaves room.
_OTHER_FAULTS = {
    FaultKind.CONNECTION_ERROR: 0.03,
    FaultKind.RATE_LIMIT: 0.05,
    FaultKind.OVERLOAD: 0.08,
    FaultKind.SERVER_ERROR: 0.04,
    FaultKind.EMPTY: 0.02,
    FaultKind.MALFORMED: 0.05,
    FaultKind.TRUNCATED: 0.02,
}
_RETRY_AFTER_S = 4.0


def run(*, calls: int, timeout_probability: float, max_retries: int, seed: int, concurrent: bool) -> None:
    """Make the calls and write about them.

    Raises:
        typer.Exit: a setting is wrong (2), Ctrl-C (130), or nobody reads the output any more (141).
    """
    with ends_with_a_code():
        faults = _faults(timeout_probability)
        policy = ClientPolicy()
        policy = policy.replace(retry=policy.retry.replace(max_retries=max_retries))
        transcript = Transcript()
        requests = [LLMRequest(prompt=f"Name fact number {n}, as JSON.", response_format="json") for n in range(calls)]
        _say_what_comes(calls, faults, policy, seed, concurrent)
        if concurrent:
            llm = AsyncMockLLM(faults=faults, policy=policy, seed=seed, observers=[transcript])
            results = virtual_time.run(_at_once(llm, requests))
        else:
            with MockLLM(faults=faults, policy=policy, seed=seed, observers=[transcript]) as one:
                results = [one.generate(request) for request in requests]
        transcript.check()
        _say_summary(results)
        say()
        say_text(lesson(results, max_retries))
        say_text(f"All this took {transcript.ended_at_s:.0f} s of virtual time{_hint(concurrent)}")


class Transcript:
    """An observer that writes a line for each attempt, as it ends."""

    def __init__(self) -> None:
        self.ended_at_s = 0.0
        self._last: dict[int, AttemptEvent] = {}
        self._broken: OSError | None = None

    def on_attempt(self, event: AttemptEvent) -> None:
        """Write an attempt that another will follow; the last of a call waits for the call's fate."""
        if math.isnan(event.backoff_s):
            self._last[event.call] = event
            return
        source = "Retry-After" if event.backoff_source is BackoffSource.RETRY_AFTER else "backoff"
        self._write(event, f"retry in {event.backoff_s:.2f} s ({source})", POOR)

    def on_call(self, event: CallEvent) -> None:
        """Write a call's last attempt, and what became of the call."""
        self.ended_at_s = max(self.ended_at_s, event.ended_at_s)
        attempt = self._last.pop(event.call, None)
        if attempt is None:
            return  # it ended before anything was sent
        if event.fate is Fate.ANSWERED:
            retries = event.attempts - 1
            self._write(attempt, f"done after {_counted(retries, 'retry')}" if retries else "done", GOOD)
        else:
            self._write(attempt, f"gives up: {event.fate}", BAD)

    def check(self) -> None:
        """Raise what writing raised: raised in an observer it would end in the log, since observers break no call."""
        if self._broken is not None:
            raise self._broken

    def _write(self, event: AttemptEvent, then: str, look: str) -> None:
        outcome = event.reason or "answered"
        status = f" ({event.status_code})" if event.status_code else ""
        took = event.ended_at_s - event.started_at_s
        if self._broken is None:
            try:
                say(f"{event.call:4}  {event.attempt:7}  {outcome + status:<24}  {took:6.2f} s  {then}", look)
            except OSError as error:
                self._broken = error


def lesson(results: Sequence[LLMResponse | LLMFailure], max_retries: int) -> str:
    """Say in one sentence what retries did."""
    failed = sum(not result.ok for result in results)
    stumbled = sum(not result.ok or result.attempts > 1 for result in results)
    of_all = f"{stumbled} of {_counted(len(results), 'call')} failed at the first attempt"
    if not stumbled:
        return "Every call was answered at the first attempt, so there was nothing to retry."
    if not max_retries:
        curable = sum(not result.ok and result.retryable for result in results)
        return f"{of_all} and were not tried again; {curable} of these failures are retryable. Try --max-retries 2."
    cured = stumbled - failed
    more = sum(result.attempts for result in results) - len(results)
    return f"{of_all}; retries answered {cured or 'none'} of these, at the price of {_counted(more, 'attempt')} more."


async def _at_once(llm: AsyncMockLLM, requests: list[LLMRequest]) -> list[LLMResponse | LLMFailure]:
    async with llm:
        return await llm.generate_many(requests, concurrency=len(requests))


def _faults(timeout_probability: float) -> Faults:
    timeouts = Faults(timeout=timeout_probability, retry_after=_RETRY_AFTER_S)
    others = {str(kind): share * (1 - timeouts.timeout) for kind, share in _OTHER_FAULTS.items()}
    faults: Faults = timeouts.replace(**others)
    return faults


def _say_what_comes(calls: int, faults: Faults, policy: ClientPolicy, seed: int, concurrent: bool) -> None:
    how = "all at once (AsyncMockLLM)" if concurrent else "one after another (MockLLM)"
    other = sum(getattr(faults, kind) for kind in _OTHER_FAULTS)
    say(f"{_counted(calls, 'call')} to a simulated server, {how}", HEAD)
    say(f"An attempt times out with probability {faults.timeout:g}, and fails otherwise with {other:.2g}.")
    say(
        f"max_retries={policy.retry.max_retries}, attempt_timeout={policy.attempt_timeout:g} s, "
        f"total_timeout={policy.total_timeout:g} s, seed={seed}\n"
    )
    say(f"{'call':>4}  {'attempt':>7}  {'outcome':<24}  {'took':>8}  then", HEAD)


def _say_summary(results: Sequence[LLMResponse | LLMFailure]) -> None:
    groups: dict[tuple[str, str], list[LLMResponse | LLMFailure]] = {}
    for result in results:
        groups.setdefault(_end(result), []).append(result)
    in_order = sorted(groups, key=lambda end: (end[0] != Fate.ANSWERED, end[0], -len(groups[end]), end[1]))
    rows = [[*end, *_measures(groups[end], len(results))] for end in in_order]
    looks = [GOOD if end[0] == Fate.ANSWERED else BAD for end in in_order]
    say()
    say_table(
        ["fate of the call", "reason", "calls", "share", "attempts", "median", "longest"],
        [*rows, ["all", "", *_measures(results, len(results))]],
        texts=2,
        looks=[*looks, ""],
    )


def _end(result: LLMResponse | LLMFailure) -> tuple[str, str]:
    if isinstance(result, LLMResponse):
        return str(Fate.ANSWERED), "first attempt" if result.attempts == 1 else "after retries"
    return str(result.fate), str(result.reason)


def _measures(results: Sequence[LLMResponse | LLMFailure], of: int) -> list[str]:
    latencies = [result.latency for result in results]
    return [
        str(len(results)),
        f"{len(results) / of:.0%}",
        str(sum(result.attempts for result in results)),
        f"{statistics.median(latencies):.2f} s",
        f"{max(latencies):.2f} s",
    ]


def _hint(concurrent: bool) -> str:
    return "." if concurrent else "; with --async the calls overlap."


def _counted(count: int, noun: str) -> str:
    plural = f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
    return f"{count} {noun if count == 1 else plural}"
