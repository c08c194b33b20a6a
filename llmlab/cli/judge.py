"""`llmlab judge`: a recording of the fault server in, a verdict on the client out.

The rules stand in `llmlab/conduct/`; this module only shows what they found.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from llmlab.cli.console import BAD, GOOD, HEAD, POOR, ends_with_a_code, say
from llmlab.conduct.judge import judge
from llmlab.conduct.recording_file import read_outcomes, read_recording
from llmlab.conduct.standards import Standards

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from llmlab.conduct.verdict import Verdict

_LOOKS = {"guilty": BAD, "note": POOR, "unknown": POOR, "innocent": GOOD}


def run(*, recording: Path, outcomes: Path | None, as_json: bool, standards: Mapping[str, Any]) -> None:
    """Judge a recording and show the verdict, as a report or as JSON.

    Args:
        recording: the file.
        outcomes: what the client reports of its calls, if it does.
        as_json: whether to write JSON.
        standards: what is asked of the client; what is `None` keeps its default.

    Raises:
        typer.Exit: the client is guilty (1), a file cannot be read (2), or nobody reads the output (141).
    """
    with ends_with_a_code():
        seen = read_recording(recording)
        reported = () if outcomes is None else read_outcomes(outcomes, seen.header)
        asked = Standards(**{name: value for name, value in standards.items() if value is not None})
        verdict = judge(seen, asked, outcomes=reported)
        if as_json:
            say(verdict.model_dump_json(indent=2))
        else:
            _say_report(verdict)
        if not verdict.passed:
            raise typer.Exit(1)


def _say_report(verdict: Verdict) -> None:
    say(verdict.subject, HEAD)
    say()
    for finding in verdict.findings:
        say(finding.head, _LOOKS[finding.ruling])
        say(finding.body)
    for line in verdict.limits:
        say(line)
    say()
    say(verdict.summary, GOOD if verdict.passed else BAD)
