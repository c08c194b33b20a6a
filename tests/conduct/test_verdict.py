"""The verdict as a value: what it says in a test, in a terminal, in a notebook and to a program."""

import json
from typing import get_args

import pytest

from llmlab.conduct.judge import RULES, judge
from llmlab.conduct.standards import Standards
from llmlab.conduct.verdict import RuleName, Verdict
from llmlab.core.settings import SettingsError
from tests.conduct.scenes import asked, keyed, recorded, refused

GUILTY = recorded([keyed(0, 1, asked(1.0, status=404)), keyed(0, 2, asked(2.0, status=404))])
QUIET = recorded([asked(1.0), asked(2.0)])


def test_there_is_one_finding_of_every_rule():
    assert [rule.__name__ for rule in RULES] == [finding.rule for finding in sorted_as_listed(judge(QUIET))]
    assert {rule.__name__ for rule in RULES} == set(get_args(RuleName))


def sorted_as_listed(verdict):
    names = [rule.__name__ for rule in RULES]
    return sorted(verdict.findings, key=lambda finding: names.index(finding.rule))


def test_what_is_worst_comes_first():
    rulings = [finding.ruling for finding in judge(GUILTY).findings]
    assert rulings[0] == "guilty"
    assert rulings[-1] == "innocent"


def test_a_guilty_client_does_not_pass():
    verdict = judge(GUILTY)
    assert not verdict.passed
    assert verdict.guilty == ("retried_final_answer",)
    assert repr(verdict) == "Verdict(Guilty: retried_final_answer.)"


def test_no_offence_seen_passes_and_says_what_is_not_known():
    verdict = judge(QUIET)
    assert verdict.passed
    assert "hung" in verdict.unknown
    assert verdict.summary == "No rule was seen broken; 8 of 10 could not be told."


def test_the_report_has_every_finding_within_the_width_of_a_terminal():
    text = str(judge(GUILTY))
    assert text.startswith(
        "acme/1.0: 1 call, 2 requests, 1 connection\n\nGUILTY    retried_final_answer\n          It asked"
    )
    assert text.endswith("\n\nGuilty: retried_final_answer.")
    assert all(rule.__name__ in text for rule in RULES)
    assert max(map(len, text.splitlines())) <= 80


def test_a_guess_is_said_to_be_one():
    assert any("told by their bodies alone" in notice for notice in judge(QUIET).notices)
    assert not judge(GUILTY).notices


def test_a_recording_without_end_is_said_to_be_one():
    assert any("has no end" in notice for notice in judge(recorded([asked(1.0)], end=None)).notices)


def test_what_a_client_calls_itself_cannot_write_html():
    page = judge(recorded([asked(1.0, client="<script>alert(1)</script>")]))._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_program_gets_it_as_json_and_back():
    verdict = judge(GUILTY)
    data = json.loads(verdict.model_dump_json())
    assert data["findings"][0]["requests"] == [0]
    assert Verdict(**data) == verdict


def test_many_requests_are_shown_in_part_and_kept_in_full():
    scene = recorded([keyed(0, n + 1, refused(1.0 + n, status=400)) for n in range(30)])
    finding = judge(scene)["retried_final_answer"]
    assert len(finding.requests) == 29
    assert str(finding).endswith("(requests 0, 1, 2, 3, 4, 5, 6, 7, ...)")


def test_wrong_standards_are_refused():
    with pytest.raises(SettingsError, match="deadline must be more than 0"):
        Standards(deadline=0)
    with pytest.raises(SettingsError, match="Standards has no setting 'dead_line'; did you mean 'deadline'"):
        Standards(dead_line=3)
