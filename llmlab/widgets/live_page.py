"""What a `LiveMonitor` looks like: numbers, reasons and a small chart, as HTML.

The chart is SVG written here and no matplotlib figure: it is drawn in about a millisecond, where a figure takes a
hundred, and a monitor may not cost what it watches. Colours follow the notebook's theme, failures are hatched as well
as coloured, and the chart is told in words too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmlab.reports.markup import Html, element, join, text
from llmlab.widgets.tally import share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from llmlab.widgets.tally import Bucket, Snapshot

STYLE = """<style>
.llmlab-live { --ink: var(--jp-ui-font-color1, #1a1a1a); --line: var(--jp-border-color1, #8c8c8c); color: var(--ink);
  font-size: 13px; line-height: 1.4; max-width: 760px; }
.llmlab-live h4 { margin: 0 0 6px; font-size: 14px; color: inherit; }
.llmlab-live dl { display: flex; flex-wrap: wrap; gap: 6px 26px; margin: 0 0 8px; }
.llmlab-live dl dt, .llmlab-live dl dd { float: none; width: auto; margin: 0; padding: 0; }
.llmlab-live dl dt { font-size: 12px; } .llmlab-live dl dd { font-size: 20px; font-variant-numeric: tabular-nums; }
.llmlab-live small { font-size: 12px; }
.llmlab-live table { border-collapse: collapse; margin: 6px 0; font-variant-numeric: tabular-nums; color: inherit; }
.llmlab-live th, .llmlab-live td { padding: 2px 14px 2px 0; text-align: right; border-bottom: 1px solid var(--line); }
.llmlab-live th:first-child, .llmlab-live td:first-child { text-align: left; font-weight: normal; }
.llmlab-live svg { display: block; width: 100%; height: auto; color: var(--ink); }
.llmlab-live svg text { fill: currentColor; font: 11px sans-serif; }
.llmlab-live-error { border-left: 4px solid #d55e00; padding: 6px 10px; white-space: pre-wrap; }
@media (prefers-color-scheme: dark) {
  .llmlab-live { --ink: var(--jp-ui-font-color1, #e6e6e6); --line: var(--jp-border-color1, #777777); }
}
</style>"""
"""JupyterLab lets the names and values of lists float, which is undone here. The last rule is for dark pages that are
no notebook; a notebook's own variables come first in both."""

_WIDTH, _LEFT, _BARS, _CURVE, _GAP = 720, 46, 90, 70, 30
_SKY, _VERMILLION = "#4a90c2", "#d55e00"
_HATCHES = element(
    "defs",
    element(
        "pattern",
        element("rect", width="5", height="5", fill=_VERMILLION),
        element("path", d="M0 5 L5 0", stroke="#ffffff", stroke_width="1.4"),
        id="llmlab-failed",
        width="5",
        height="5",
        patternUnits="userSpaceOnUse",
    ),
)


def body(snapshot: Snapshot, title: str, note: str) -> str:
    """Return the page's changing part."""
    parts = [element("h4", text(title)), _headline(snapshot)]
    if snapshot.buckets:
        parts.append(_chart(snapshot))
    if snapshot.failed_attempts or snapshot.failed_calls:
        parts.append(_reasons(snapshot))
    if snapshot.layers:
        rows = [(name, *(f"{number:,}" for number in numbers)) for name, numbers in snapshot.layers.items()]
        parts.append(_table(("layer inside", "calls", "attempts", "failed"), rows))
    parts.append(element("small", text(note)))
    return element("div", join(parts), class_="llmlab-live")


def error_box(message: str) -> str:
    """Return an error as HTML."""
    return element("div", text(message), class_="llmlab-live-error", role="alert")


def _headline(shot: Snapshot) -> Html:
    failed = sum(shot.failed_attempts.values())
    facts = [
        ("in flight", f"{shot.in_flight:,}", "calls now"),
        ("calls ended", f"{shot.calls:,}", f"{share(shot.answered, shot.calls)} answered"),
        ("attempts", f"{shot.attempts:,}", f"{shot.attempts / shot.calls:.2f} per call" if shot.calls else "-"),
        ("failed attempts", f"{failed:,}", share(failed, shot.attempts)),
    ]
    for q, value in shot.latency_s.items():
        facts.append((f"p{100 * q:g} latency", f"{value:.3g} s", f"last {shot.recent_calls:,} calls"))
    return element(
        "dl",
        *(
            element("div", element("dt", text(name)), element("dd", text(value)), element("small", text(below)))
            for name, value, below in facts
        ),
    )


def _reasons(shot: Snapshot) -> Html:
    names = dict.fromkeys((*shot.failed_attempts, *shot.failed_calls))
    rows = []
    for name in names:
        tried, ended = shot.failed_attempts.get(name, 0), shot.failed_calls.get(name, 0)
        rows.append((name, f"{tried:,}", share(tried, shot.attempts), f"{ended:,}", share(ended, shot.calls)))
    return _table(("failed by", "attempts", "of all", "calls", "of all"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    top = element("tr", *(element("th", text(name), scope="col") for name in head))
    return element("table", top, *(element("tr", *(element("td", text(cell)) for cell in row)) for row in rows))


def _chart(shot: Snapshot) -> Html:
    """Draw attempts over time as bars, and below them the calls' median latency as points."""
    buckets = shot.buckets
    most = max(bucket.answered + bucket.failed for bucket in buckets) or 1
    slowest = max((bucket.latency_s or 0.0 for bucket in buckets), default=0.0) or 1.0
    step = (_WIDTH - _LEFT) / len(buckets)
    shapes = [_HATCHES]
    for place, bucket in enumerate(buckets):
        shapes += _bar(bucket, _LEFT + place * step, step, most)
    bottom = _BARS + _GAP + _CURVE
    for place, bucket in enumerate(buckets):
        if bucket.latency_s is not None:
            x, y = _LEFT + (place + 0.5) * step, bottom - _CURVE * bucket.latency_s / slowest
            shapes.append(element("circle", cx=f"{x:.1f}", cy=f"{y:.1f}", r="2.6", fill="currentColor"))
    for level in (_BARS, bottom):
        line = {"x1": str(_LEFT), "x2": str(_WIDTH), "y1": str(level), "y2": str(level)}
        shapes.append(element("line", stroke="currentColor", stroke_width="0.8", **line))
    shapes += _labels(shot, most, slowest)
    told = f"Attempts and latency over the last {shot.window_s:.3g} s: at most {most:,} attempts in a slice"
    return element(
        "svg", *shapes, viewBox=f"0 0 {_WIDTH} {bottom + 20}", role="img", aria_label=f"{told}, {slowest:.3g} s median."
    )


def _labels(shot: Snapshot, most: int, slowest: float) -> list[Html]:
    top, bottom = _BARS + _GAP, _BARS + _GAP + _CURVE
    bars = f"attempts ended in {shot.window_s / len(shot.buckets):.2g} s: answered (plain), failed (hatched)"
    points = f"median latency of calls (points), over {shot.window_s:.3g} s of the client's clock"
    labels = (
        (_LEFT - 6, 10, "end", f"{most:,}"),
        (_LEFT - 6, _BARS, "end", "0"),
        (_LEFT + 4, _BARS + 14, "start", bars),
        (_LEFT - 6, top + 8, "end", f"{slowest:.3g} s"),
        (_LEFT - 6, bottom, "end", "0 s"),
        (_LEFT + 4, bottom + 14, "start", points),
    )
    return [element("text", text(said), x=str(x), y=str(y), text_anchor=anchor) for x, y, anchor, said in labels]


def _bar(bucket: Bucket, x: float, step: float, most: int) -> list[Html]:
    shapes, top = [], float(_BARS)
    for count, fill in ((bucket.answered, _SKY), (bucket.failed, "url(#llmlab-failed)")):
        if count:
            height = (_BARS - 4) * count / most
            top -= height
            place = {"x": f"{x + 0.5:.1f}", "y": f"{top:.1f}", "width": f"{step - 1:.1f}", "height": f"{height:.1f}"}
            shapes.append(element("rect", fill=fill, **place))
    return shapes
