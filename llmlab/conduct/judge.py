"""The judge: a recording in, a verdict out; pure.

    verdict = judge(read_recording("conduct.jsonl"), Standards(deadline=10.0))
    assert verdict.passed, str(verdict)

Each rule is a function from a `Trial` and the `Standards` to one `Finding`. How requests are taken for calls, and how
far that can be trusted, stands in `calls.py`.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from llmlab.conduct.calls import trial
from llmlab.conduct.rules_answers import accepted_truncated
from llmlab.conduct.rules_connections import hung, leaked_connections, no_reuse, too_many_in_flight
from llmlab.conduct.rules_retries import amplified, ignored_retry_after, no_backoff, no_jitter, retried_final_answer
from llmlab.conduct.standards import Standards
from llmlab.conduct.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from llmlab.conduct.calls import Trial
    from llmlab.conduct.recording import Outcome, Recording
    from llmlab.conduct.verdict import Finding

RULES: tuple[Callable[[Trial, Standards], Finding], ...] = (
    retried_final_answer,
    ignored_retry_after,
    amplified,
    no_backoff,
    no_jitter,
    too_many_in_flight,
    hung,
    leaked_connections,
    accepted_truncated,
    no_reuse,
)
"""All rules; each is named as its findings are."""


def judge(recording: Recording, standards: Standards | None = None, *, outcomes: Iterable[Outcome] = ()) -> Verdict:
    """Judge how a client behaved.

    Args:
        recording: what the server saw; of one client, since all requests are judged together.
        standards: what is asked of it; `None` means the defaults.
        outcomes: what the client reports of its calls, beside what the recording holds.
    """
    asked = standards or Standards()
    case = trial(recording, outcomes=tuple(outcomes), link_within=asked.link_within)
    return Verdict(
        findings=tuple(rule(case, asked) for rule in RULES),
        clients=tuple(sorted({request.client for request in recording.requests if request.client})),
        calls=len(case.calls),
        requests=len(recording.requests),
        connections=len(recording.opened),
        notices=tuple(_notices(case)),
    )


def _notices(case: Trial) -> Iterable[str]:
    yield from case.recording.notices
    if case.recording.ended_at_s is None:
        yield "the recording has no end: the server did not stop in order, and requests in flight are missing"
    ways = Counter(call.linked_by for call in case.calls)
    if ways["body"]:
        yield (
            f"{ways['body']} of {len(case.calls)} calls were told by their bodies alone: equal prompts soon after a "
            "failure look like retries, so ask each call something else"
        )
