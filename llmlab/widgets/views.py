"""What the dashboard draws: the charts that suit a result, alone or beside a pinned one, each by its question.

The charts are those of `llmlab.plots`, chosen as a report chooses them. Pictures are made without pyplot, so that any
thread may make them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from llmlab.analysis.compare import compare
from llmlab.plots.images import svg
from llmlab.plots.selection import Panel, charts_of
from llmlab.plots.style import STYLE, WIDTH

if TYPE_CHECKING:
    from llmlab.analysis.recommendation import Recommendation
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.plots.selection import Result

FIRST_QUESTIONS = ("How often do calls fail, and why?", "How often do calls fail?")
"""What is shown first, in this order of preference."""

SETTING, PINNED, NOW = "setting", "pinned", "now"
_DPI = 110
_MARGIN = 0.12  # inches: on a dark page the chart is a sheet whose edge is seen
ImageFormat = Literal["png", "svg"]


@dataclass(frozen=True)
class BesidePinned:
    """Two results as one, told apart by the column `setting`: what was pinned, and what is now."""

    pinned: SweepResult
    now: SweepResult
    parameters = (SETTING,)

    @cached_property
    def calls(self) -> pd.DataFrame:
        """The calls of both."""
        return _both(self.pinned.calls, self.now.calls)

    @cached_property
    def attempts(self) -> pd.DataFrame:
        """The attempts of both."""
        return _both(self.pinned.attempts, self.now.attempts)

    @cached_property
    def server(self) -> pd.DataFrame:
        """The servers' own view of both."""
        return _both(self.pinned.server, self.now.server)

    def __str__(self) -> str:
        """Say what changed in the share answered and in latency, paired by call."""
        answered = compare(self.pinned.calls, self.now.calls, "answered")
        latency = compare(self.pinned.calls, self.now.calls, "latency_s")
        pairs = f"{answered.pairs:,} pairs of calls under the same chance"
        if not answered.pairs or not (answered.differs or latency.differs):
            return f"Against what is pinned nothing has changed that {pairs} can tell."
        points = f"{100 * answered.difference:+.2g} points answered ({_ends(answered, 100)})"
        seconds = f"{latency.difference:+.2g} s mean latency ({_ends(latency, 1)})"
        return f"Against what is pinned: {points}, {seconds}; {pairs}."


def _ends(found: object, factor: float) -> str:
    low, high = (factor * float(getattr(found, end)) for end in ("low", "high"))
    return f"{low:+.2g} to {high:+.2g}"


def _both(pinned: pd.DataFrame, now: pd.DataFrame) -> pd.DataFrame:
    names = pd.CategoricalDtype([PINNED, NOW], ordered=True)
    frames = [frame.assign(**{SETTING: name}) for name, frame in ((PINNED, pinned), (NOW, now))]
    both = pd.concat(frames, ignore_index=True)
    both[SETTING] = both[SETTING].astype(names)
    return both


def panels_of(result: Result, recommendation: Recommendation | None = None) -> list[Panel]:
    """Return the charts that suit a result, the one to be shown first in front."""
    panels = charts_of(result, recommendation).panels
    first = [panel for question in FIRST_QUESTIONS for panel in panels if panel.question == question]
    return [*first[:1], *(panel for panel in panels if panel not in first[:1])]


def figure_of(panel: Panel) -> Figure:
    """Draw a chart on a figure of its own, which nobody else keeps."""
    layout = ConstrainedLayoutEngine(w_pad=_MARGIN, h_pad=_MARGIN)
    figure = Figure(figsize=(WIDTH, panel.height), layout=layout, facecolor=STYLE["figure.facecolor"], dpi=_DPI)
    panel.draw(figure.add_subplot())
    return figure


def image_of(panel: Panel, image_format: ImageFormat = "png") -> bytes:
    """Return a chart as an image."""
    figure = figure_of(panel)
    if image_format == "svg":
        return svg(figure)
    image = io.BytesIO()
    # The canvas itself, since `savefig` draws a figure with a layout twice; pressed lightly, since it stays here.
    canvas: Any = FigureCanvasAgg(figure)
    canvas.print_png(image, pil_kwargs={"compress_level": 1})
    return image.getvalue()
