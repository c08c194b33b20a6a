"""The verdict on a client: what each rule found, in plain words, with the requests that show it.

A rule that had nothing to go by says `unknown`, never `innocent`: a client that was never told to wait has not shown
that it would. The rules stand in the modules `rules_*.py`, and their list in `judge.py`.
"""

from __future__ import annotations

import textwrap
from typing import Literal

from pydantic import field_validator

from llmlab.core.display import grid
from llmlab.core.settings import Settings

Ruling = Literal["guilty", "note", "unknown", "innocent"]
"""`guilty`: it broke the rule. `note`: worth knowing, no offence. `unknown`: the recording cannot tell. `innocent`: it
could have broken the rule, and did not."""

RuleName = Literal[
    "retried_final_answer",
    "ignored_retry_after",
    "amplified",
    "no_backoff",
    "no_jitter",
    "too_many_in_flight",
    "hung",
    "leaked_connections",
    "no_reuse",
    "accepted_truncated",
]

_ORDER: dict[Ruling, int] = {"guilty": 0, "note": 1, "unknown": 2, "innocent": 3}
_WIDTH = 80
_SHOWN = 8


class Finding(Settings):
    """What one rule found.

    Attributes:
        rule: which.
        ruling: guilty, note, unknown or innocent.
        sentence: what was seen, with figures; of `unknown`, what would be needed to tell.
        requests: the numbers of the requests that show it; all of them.
    """

    rule: RuleName
    ruling: Ruling
    sentence: str
    requests: tuple[int, ...] = ()

    @property
    def head(self) -> str:
        """The ruling and the rule, as a line."""
        return f"{self.ruling.upper() if self.ruling == 'guilty' else self.ruling:<9} {self.rule}"

    @property
    def body(self) -> str:
        """What was seen, as indented lines."""
        return textwrap.fill(str(self), _WIDTH, initial_indent=" " * 10, subsequent_indent=" " * 10)

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.requests[:_SHOWN]))
        more = ", ..." if len(self.requests) > _SHOWN else ""
        where = f" (request{'s' if len(self.requests) > 1 else ''} {shown}{more})" if self.requests else ""
        return f"{self.sentence}{where}"


class Verdict(Settings):
    """The verdict on a client's conduct; printed, a report.

        assert verdict.passed, str(verdict)

    Attributes:
        findings: one of each rule, what is worst first.
        clients: the User-Agents of those who asked.
        calls: how many calls the requests were taken for.
        requests: how many requests there were, those without a body included.
        connections: how many connections there were.
        notices: what limits the verdict.
    """

    findings: tuple[Finding, ...]
    clients: tuple[str, ...] = ()
    calls: int = 0
    requests: int = 0
    connections: int = 0
    notices: tuple[str, ...] = ()

    @field_validator("findings")
    @classmethod
    def _worst_first(cls, findings: tuple[Finding, ...]) -> tuple[Finding, ...]:
        return tuple(sorted(findings, key=lambda finding: _ORDER[finding.ruling]))

    @property
    def passed(self) -> bool:
        """Whether no rule was broken as far as the recording tells; see `unknown` for what it does not tell."""
        return not self.guilty

    @property
    def guilty(self) -> tuple[RuleName, ...]:
        """The rules that were broken."""
        return self._ruled("guilty")

    @property
    def unknown(self) -> tuple[RuleName, ...]:
        """The rules of which the recording cannot tell."""
        return self._ruled("unknown")

    def __getitem__(self, rule: RuleName) -> Finding:
        """Return what a rule found: `verdict["hung"].ruling`."""
        return next(finding for finding in self.findings if finding.rule == rule)

    def _ruled(self, ruling: Ruling) -> tuple[RuleName, ...]:
        return tuple(finding.rule for finding in self.findings if finding.ruling == ruling)

    @property
    def limits(self) -> tuple[str, ...]:
        """What limits the verdict, as lines."""
        return tuple(textwrap.fill(f"Note that {notice}.", _WIDTH) for notice in self.notices)

    @property
    def summary(self) -> str:
        """The verdict in a sentence."""
        if not self.passed:
            return f"Guilty: {', '.join(self.guilty)}."
        if not self.unknown:
            return "Innocent: no rule was broken."
        return f"No rule was seen broken; {len(self.unknown)} of {len(self.findings)} could not be told."

    @property
    def subject(self) -> str:
        """Who was judged, and on how much."""
        who = ", ".join(self.clients) or "a client without a name"
        counts = (_count(self.calls, "call"), _count(self.requests, "request"), _count(self.connections, "connection"))
        return f"{who}: {', '.join(counts)}"

    def __str__(self) -> str:
        findings = (line for finding in self.findings for line in (finding.head, finding.body))
        return "\n".join([self.subject, "", *findings, *self.limits, "", self.summary])

    def __repr__(self) -> str:
        """Return the short form: test runners cut long ones."""
        return f"Verdict({self.summary})"

    def _repr_html_(self) -> str:
        rows = [(finding.ruling, finding.rule, str(finding)) for finding in self.findings]
        head = ("ruling", "rule", "what was seen")
        return grid(f"{self.summary} {self.subject}", head, rows, note=" ".join(self.notices))


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
