"""What stands in a report: what was run, the numbers, why calls failed, the recommendation, and the charts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pandas as pd

from llmlab.analysis.estimates import Estimate
from llmlab.analysis.judging import interval_text
from llmlab.analysis.metrics import rate_by_reason
from llmlab.analysis.slo import CRITERIA, SUCCESS
from llmlab.analysis.wording import counted, shown
from llmlab.core.vocabulary import REASONS
from llmlab.plots.images import svg
from llmlab.plots.labels import duration, parameter_name, percent, plain_number, value_label
from llmlab.plots.selection import charts_of
from llmlab.plots.style import WIDTH, new_page
from llmlab.reports.markup import Html, element, join, picture, table, text

if TYPE_CHECKING:
    from llmlab.analysis.recommendation import Recommendation
    from llmlab.analysis.slo import Criterion
    from llmlab.experiments.runs import FailedRun
    from llmlab.experiments.sweep_result import SweepResult

MOST_ROWS = 200
"""Of longer tables the first rows are shown, and the report says so."""

_MOST_VALUES = 12  # of a swept parameter, that are named
_VERDICTS = {"chosen": "recommended", "meets": "kept", "unclear": "open", "misses": "missed"}
_STATUS = {"kept": "The SLO is kept", "too_few_calls": "Too few calls to tell", "not_kept": "The SLO is not kept"}


def recommended(recommendation: Recommendation | None) -> Html:
    """Say what to set, how sure that is, and why the others lost."""
    heading = element("h2", text("Recommendation"))
    if recommendation is None:
        how = "Nothing is recommended, because no SLO was given: recommend(result, slo) makes a recommendation."
        return _section(heading, element("p", text(how), class_="faint"))
    status = element("p", text(_STATUS[recommendation.status]), class_=f"status {recommendation.status}")
    settings = [[path, value_label(value)] for path, value in recommendation.settings.items()]
    chosen = [table(["setting", "value"], settings, texts=frozenset({0, 1}))] if settings else []
    return _section(
        heading,
        status,
        element("p", text(recommendation)),
        *chosen,
        element("h3", text("All settings")),
        _points(recommendation),
    )


def _points(recommendation: Recommendation) -> Html:
    points = recommendation.points
    names = list(points.columns[: points.columns.get_loc("calls")])
    criteria = [criterion for criterion in CRITERIA if criterion.column in points.columns]
    order = {verdict: place for place, verdict in enumerate(_VERDICTS)}
    best_first = points.sort_values("verdict", key=lambda words: words.map(order), kind="stable")
    rows = []
    for row in best_first.head(MOST_ROWS).to_dict("records"):
        numbers = [interval_text(one, _estimate(row, one)) for one in criteria]
        front = "yes" if row["on_front"] else ""
        settings = [value_label(row[name]) for name in names]
        rows.append([*settings, f"{row['calls']:,}", *numbers, front, _VERDICTS[row["verdict"]]])
    head = [*map(parameter_name, names), "calls", *(one.label for one in criteria), "Pareto front", "SLO"]
    prose = frozenset({len(head) - 2, len(head) - 1})
    caption = f"In brackets: intervals, which hold together at {recommendation.confidence:.0%}."
    reasons = best_first["reason"].head(MOST_ROWS)
    return join([table(head, rows, texts=prose, notes=reasons, caption=caption), _rest(len(points))])


def _estimate(row: dict[Any, Any], criterion: Criterion) -> Estimate:
    value, low, high = (float(row[f"{criterion.column}{end}"]) for end in ("", "_low", "_high"))
    return Estimate(value, low, high, int(row["calls"]), math.nan)


def what_was_run(result: SweepResult) -> Html:
    """Say how much was run and what was swept, and list the experiment's settings; prompts are counted, not shown."""
    calls = result.calls
    facts = [
        ["calls", f"{len(calls):,}"],
        ["attempts", f"{calls['attempts'].sum():,}"],
        ["finished runs", f"{len(result.runs):,} of {result.planned:,}"],
        ["seeds", _values(pd.Series([run.seed for run in result.runs]))],
    ]
    facts += [[f"swept: {name}", _values(calls[name])] for name in result.parameters]
    parts = [element("h2", text("What was run")), table(["what", "value"], facts, texts=frozenset({0, 1}))]
    if result.interrupted:
        note = "The sweep was stopped before all runs were finished: the numbers are those of the finished ones."
        parts.append(element("p", text(note), class_="note"))
    if result.failures:
        rows = [[_where(failed), failed.reason] for failed in result.failures[:MOST_ROWS]]
        parts += [
            element("p", text(f"{counted(len(result.failures), 'run')} could not be finished:"), class_="note"),
            table(["run", "why"], rows, texts=frozenset({0, 1})),
            _rest(len(result.failures)),
        ]
    if result.settings:
        rows = [[path, value_label(value)] for path, value in _with_swept(result).items()]
        listed = table(["setting", "value"], rows, texts=frozenset({0, 1}))
        parts.append(element("details", element("summary", text("The experiment's settings")), listed))
    return _section(*parts)


def _where(failed: FailedRun) -> str:
    settings = ", ".join(f"{parameter_name(path)} {value_label(value)}" for path, value in failed.settings.items())
    return f"{settings or 'the settings as they are'}, seed {failed.seed}"


def numbers(result: SweepResult) -> Html:
    """Give the headline numbers of every combination of settings."""
    summary = result.summary()
    head = [
        *map(parameter_name, result.parameters),
        "calls",
        "success rate (95% interval)",
        "p50",
        "p95",
        "p99",
        "attempts per call",
        "answers per second",
    ]
    rows = []
    for row in summary.head(MOST_ROWS).to_dict("records"):
        share, low, high = (shown(SUCCESS, row[f"success_rate{end}"]) for end in ("", "_low", "_high"))
        rows.append(
            [
                *(value_label(row[name]) for name in result.parameters),
                f"{row['calls']:,}",
                f"{share} ({low} to {high})",
                *(_seconds(row[f"latency_p{q}_s"]) for q in (50, 95, 99)),
                f"{row['attempts_per_call']:.3f}",
                plain_number(row["throughput_per_s"]),
            ]
        )
    caption = "Latencies are those of all calls, failed ones too; rates have Wilson intervals."
    return _section(element("h2", text("Numbers")), table(head, rows, caption=caption), _rest(len(summary)))


def failures(result: SweepResult) -> Html:
    """Say why calls failed, over all settings together."""
    heading = element("h2", text("Why calls failed"))
    reasons = rate_by_reason(result.calls)
    if reasons.empty:
        return _section(heading, element("p", text("No call failed." if len(result.calls) else "There were no calls.")))
    rows = [
        [
            row["reason"],
            f"{row['failures']:,}",
            f"{percent(row['rate'])} ({percent(row['rate_low'])} to {percent(row['rate_high'])})",
            REASONS[row["reason"]].meaning,
        ]
        for row in reasons.sort_values("failures", ascending=False, kind="stable").to_dict("records")
    ]
    head = ["reason", "calls", "share of all calls (95% interval)", "meaning"]
    return _section(heading, table(head, rows, texts=frozenset({0, 3})))


def charts(result: SweepResult, recommendation: Recommendation | None) -> Html:
    """Draw the charts that suit the result, each under the question that it answers."""
    chosen = charts_of(result, recommendation)
    averaged = ", ".join(chosen.averaged)
    notes = [element("p", text(f"Averaged over {averaged}."), class_="note")] if averaged else []
    figures = []
    for panel in chosen.panels:
        figure = new_page(WIDTH, panel.height)
        ax = panel.draw(figure.add_subplot())
        described = f"{panel.question} {ax.get_title(loc='left')}".replace("\n", " ")
        image = picture(svg(figure), described)
        figures.append(element("figure", element("h3", text(panel.question)), image))
    return _section(element("h2", text("Charts")), *notes, *figures)


def _with_swept(result: SweepResult) -> dict[str, Any]:
    """Return the settings by path; of those that were swept the values stand there instead of the base's."""
    swept = {name.removeprefix("experiment."): f"{_values(result.calls[name])} (swept)" for name in result.parameters}
    below = tuple(f"{path}." for path in swept)
    kept = {path: value for path, value in result.settings.items() if not path.startswith(below)}
    return {**kept, **swept}


def _values(column: pd.Series[Any]) -> str:
    present = column.drop_duplicates()
    shown = ", ".join(value_label(value) for value in present.head(_MOST_VALUES))
    more = len(present) - _MOST_VALUES
    return f"{shown} and {more} more" if more > 0 else shown


def _seconds(value: float) -> str:
    return "" if math.isnan(value) else duration(value)


def _rest(count: int) -> Html:
    left_out = count - MOST_ROWS
    if left_out <= 0:
        return Html("")
    return element("p", text(f"{counted(left_out, 'further row')} left out."), class_="faint")


def _section(*parts: Html) -> Html:
    return element("section", join(parts))
