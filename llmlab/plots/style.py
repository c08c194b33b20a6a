"""How every chart looks: one style, applied while a chart is drawn and never globally.

Colours are those of Okabe and Ito ("Color Universal Design", 2008), which colour-blind eyes can tell apart; because
a grey print cannot, a second sign always goes with a colour: a marker, a dash pattern or a hatch.

**Which figure a chart gets when it is given no `ax`.** In an IPython session, on its main thread, the figure is made by
pyplot, because only pyplot's figures are displayed at the end of a notebook's cell. Anywhere else (scripts, servers,
worker threads) it is a plain `matplotlib.figure.Figure`: pyplot keeps every figure alive until it is closed, and its
windows must not be made off the main thread. There, save it with `ax.figure.savefig("chart.png")`; for a window, pass
`ax=plt.subplots()[1]` and call `plt.show()` yourself.
"""

from __future__ import annotations

import sys
import textwrap
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy

from llmlab.core.vocabulary import FailureReason, Fate

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from matplotlib.transforms import Transform

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
INK, FAINT = "#262626", "#5a5a5a"

WIDTH, HEIGHT = 8.0, 4.5
"""Inches of a new figure: the width of a notebook's cell."""

STYLE: Any = {
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.labelsize": 10.5,
    "text.color": INK,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "font.size": 10,
    "legend.fontsize": 9.5,
    "legend.title_fontsize": 9.5,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 6,
    "errorbar.capsize": 3,
    "hatch.linewidth": 0.7,
    "hatch.color": "#ffffff",
}
"""The settings of matplotlib that hold while a chart is drawn."""

SUBTITLE = "llmlab-subtitle"
"""The `gid` by which the line under the title is found again."""

# rc_context changes settings of the whole process for a while; two threads at once would restore each other's.
STYLE_LOCK = threading.RLock()


class SeriesStyle(NamedTuple):
    """How one series of a chart is told from the others, in colour and in grey."""

    color: str
    marker: str
    linestyle: Any


class OutcomeStyle(NamedTuple):
    """How one outcome is told from the others: a colour for its family, a hatch of its own."""

    color: str
    hatch: str


_SIGNS = list(
    zip("osD^vPX*", ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 2)), (0, (3, 3))), strict=True)
)
MAX_SERIES = len(_SIGNS)
"""More series than this cannot be told apart; a chart then shows some and says how many it left out."""


def series_styles(count: int, *, ordered: bool) -> list[SeriesStyle]:
    """Return a style for each of up to `MAX_SERIES` series; numbers in order get colours in order, dark to light."""
    if ordered and count > 3:
        scale = mpl.colormaps["viridis"]
        colors = [mpl.colors.to_hex(scale(0.85 * number / (count - 1))) for number in range(count)]
    else:
        colors = [BLUE, ORANGE, BLACK, VERMILLION, SKY, GREEN, PURPLE, FAINT][
            :count
        ]  # the first four differ in grey too
    return [SeriesStyle(color, *sign) for color, sign in zip(colors, _SIGNS, strict=False)]


_R, _F = FailureReason, Fate
_ANSWERED, _BUG, _REQUEST, _GIVEN_UP = "#a3d4f2", "#7a2e00", "#4d4d4d", "#8c8c8c"
_REASON_FAMILIES: dict[str, tuple[str, ...]] = {
    VERMILLION: (_R.ATTEMPT_TIMEOUT, _R.TOTAL_DEADLINE_EXCEEDED),
    PURPLE: (_R.CONNECTION_FAILED, _R.CONNECTION_LOST),
    ORANGE: (_R.OVERLOADED, _R.RATE_LIMITED),
    _BUG: (_R.SERVER_ERROR, _R.CRASHED),
    _REQUEST: (_R.INVALID_REQUEST, _R.EMPTY_PROMPT, _R.CONTEXT_LENGTH_EXCEEDED, _R.MODEL_NOT_FOUND, _R.NOT_AUTHORISED),
    GREEN: (_R.EMPTY_OUTPUT, _R.MALFORMED_OUTPUT, _R.MALFORMED_RESPONSE, _R.TRUNCATED_OUTPUT, _R.REFUSED),
    BLUE: (_R.REJECTED_BY_LIMIT, _R.CIRCUIT_OPEN, _R.BUDGET_EXHAUSTED),
    _GIVEN_UP: (_R.CANCELLED,),
}
_FATE_FAMILIES: dict[str, tuple[str, ...]] = {
    _ANSWERED: (_F.ANSWERED,),
    VERMILLION: (_F.RETRIES_EXHAUSTED, _F.DEADLINE),
    _REQUEST: (_F.NOT_RETRYABLE,),
}  # the other fates have the name of their reason, and its look
_MARKS = {VERMILLION: "/", PURPLE: "x", ORANGE: ".", _BUG: "\\", _REQUEST: "-", GREEN: "|", BLUE: "+", _GIVEN_UP: "o"}


def _hatches(color: str) -> tuple[str, ...]:
    """Return the hatches of a family, which no other family has; a call that was answered has none."""
    mark = _MARKS.get(color, "")
    return (4 * mark, 2 * mark, f"{3 * mark}o", f"{3 * mark}*", f"{mark}O")


OUTCOMES: dict[str, OutcomeStyle] = {
    str(word): OutcomeStyle(color, hatch)
    for families in (_FATE_FAMILIES, _REASON_FAMILIES)
    for color, words in families.items()
    for word, hatch in zip(words, _hatches(color), strict=False)
}
"""The look of every fate and reason, in all charts: related reasons share a colour, and no two have the same hatch."""


@contextmanager
def chart(ax: Axes | None, *, height: float = HEIGHT) -> Iterator[Axes]:
    """Give the axes to draw on, in llmlab's style: those passed in, or those of a new figure of the given height."""
    # The figure is made outside of the style: a session's first one loads the notebook's backend, which makes
    # matplotlib interactive; the end of the style's context would undo that, and no later chart would be displayed.
    figure = _new_figure(height) if ax is None else None
    with STYLE_LOCK, mpl.rc_context(STYLE):
        if figure is not None:
            ax = figure.add_subplot()
        assert ax is not None  # noqa: S101 - for the type checker: one of the two was given
        dress(ax)
        yield ax


def dress(ax: Axes) -> None:
    """Give axes the frame, grid and ticks of every chart: those of `chart` have them, panels inside of them need it."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.set_axisbelow(True)
    ax.grid(visible=True, color="#e0e0e0", linewidth=0.8)
    # Said outright: ticks are made when the figure is drawn, and the style is over by then.
    ax.tick_params(labelsize=10, labelcolor=INK, color=FAINT)


def titled(ax: Axes, title: str, *notes: str) -> None:
    """Set the title and, in small print under it, the notes that are not empty."""
    inches = width_of(ax)
    said = "; ".join(note for note in notes if note)
    lines = textwrap.wrap(said, width=round(17 * inches))
    ax.set_title("\n".join(textwrap.wrap(title, width=round(10 * inches))), loc="left", pad=8 + 13 * len(lines))
    for text in [text for text in ax.texts if text.get_gid() == SUBTITLE]:
        text.remove()
    ax.annotate(
        "\n".join(lines),
        xy=(0, 1),
        xycoords="axes fraction",
        xytext=(0, 5),
        textcoords="offset points",
        va="bottom",
        fontsize=9,
        color=FAINT,
        linespacing=1.25,
        gid=SUBTITLE,
        annotation_clip=False,
    )


def width_of(ax: Axes) -> float:
    """Return the width of the axes in inches, roughly: the figure's layout may still change it a little."""
    return float(ax.get_position().width * ax.figure.get_window_extent().width / ax.figure.dpi)


def height_of(ax: Axes) -> float:
    """Return the height of the axes in inches, as roughly."""
    return float(ax.get_position().height * ax.figure.get_window_extent().height / ax.figure.dpi)


def legend(ax: Axes, title: str, handles: Sequence[Any] | None = None, *, reverse: bool = False) -> None:
    """Put the legend beside the axes where the figure makes room for it, else where it covers least."""
    if handles is None:
        handles = ax.get_legend_handles_labels()[0]
    beside = ax.figure.get_layout_engine() is not None
    place: dict[str, Any] = (
        {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)} if beside else {"loc": "best", "frameon": True}
    )
    box = ax.legend(handles=list(handles), title=title, alignment="left", handlelength=2.8, reverse=reverse, **place)
    box.set_gid("llmlab-legend")


def sideways(ax: Axes, points: float) -> Transform:
    """Return a transform of data that moves what is drawn by points of the screen, so that marks stand side by side."""
    figure: Any = ax.figure
    return offset_copy(ax.transData, figure, x=points, units="points")


def nothing_to_show(ax: Axes, what: str) -> None:
    """Say in the middle of empty axes that there is nothing to show: an empty chart must not look like a good one."""
    ax.grid(visible=False)
    ax.set(xticks=[], yticks=[])
    ax.text(0.5, 0.5, f"no {what} to show", transform=ax.transAxes, ha="center", va="center", fontsize=12, color=FAINT)


def new_page(width: float, height: float) -> Figure:
    """Make a figure for several axes, of so many inches, which its maker returns: a notebook displays it once."""
    if _is_notebook():
        import matplotlib.pyplot as plt  # noqa: PLC0415  # as below

        figure = plt.figure(figsize=(width, height), layout="constrained", facecolor=STYLE["figure.facecolor"])
        plt.close(figure)  # else the cell would display it as its value, and pyplot once more
        return figure
    return Figure(figsize=(width, height), layout="constrained", facecolor=STYLE["figure.facecolor"])


def _new_figure(height: float) -> Figure:
    if _is_notebook():
        import matplotlib.pyplot as plt  # noqa: PLC0415  # only where its figures are shown; see the module's docstring

        return plt.figure(figsize=(WIDTH, height), layout="constrained", facecolor=STYLE["figure.facecolor"])
    return Figure(figsize=(WIDTH, height), layout="constrained", facecolor=STYLE["figure.facecolor"])


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    on_main_thread = threading.current_thread() is threading.main_thread()
    return shell is not None and on_main_thread and shell.get_ipython() is not None
