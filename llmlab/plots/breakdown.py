"""How calls ended: stacked shares of reasons or fates against a swept parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from llmlab.analysis import metrics
from llmlab.core.vocabulary import Fate
from llmlab.plots.labels import calls_per_point, parameter_name, percent_ticks
from llmlab.plots.scales import MOST_BARS, Scale, bar_width
from llmlab.plots.style import OUTCOMES, OutcomeStyle, chart, legend, nothing_to_show, titled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

Kind = Literal["reason", "fate"]
"""What the failures are divided by: what went wrong, or how the call ended."""

_MOST_KINDS = 8
_OTHER = OutcomeStyle("#bdbdbd", "\\\\\\\\")


def outcomes(calls: pd.DataFrame, *, x: str, kind: Kind = "reason", ax: Axes | None = None) -> Axes:
    """Draw what became of the calls: the shares that failed, stacked by reason or fate, and above them the answered.

    Failures stand at the bottom, the most frequent first, so that they can be compared along the axis; an error bar
    is the 95% Wilson interval of all failures together. Where few calls failed the axis ends above them.

    Args:
        calls: calls, one a row.
        x: the column of the swept parameter.
        kind: `"reason"` (what went wrong) or `"fate"` (how the call ended).
        ax: the axes to draw on; a new figure if `None`.

    Raises:
        KeyError: the frame lacks a column; the message lists those there are.
        ValueError: `kind` is neither.

    Example:
        >>> ax = outcomes(result.calls, x="backend.timeout_probability")
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {list(get_args(Kind))}, got {kind!r}")
    table = metrics.rate_by_reason(calls, x) if kind == "reason" else metrics.rate_by_fate(calls, x)
    failures = metrics.failure_rate(calls, x)
    with chart(ax) as axes:
        title = f"Outcomes against {parameter_name(x)}, by {kind}"
        axes.set_ylabel("share of calls")
        axes.yaxis.set_major_formatter(percent_ticks())
        if failures.empty:
            titled(axes, title)
            nothing_to_show(axes, "calls")
            return axes
        scale = Scale.of(failures[x], side_by_side=True)
        places = scale.positions(failures[x])
        shares, note = _shares(table[table[kind] != Fate.ANSWERED], kind, x, scale)
        order = np.argsort(places)
        _draw_stack(axes, scale, shares)
        bars = failures.iloc[order]
        _draw_total(axes, places[order], bars)
        scale.dress(axes, x)
        axes.grid(visible=False, axis="x")
        top = float(bars["failure_rate_high"].max())
        cut = top < 0.4
        axes.set_ylim(0, 1.15 * top if cut else 1.0)
        legend(axes, "outcome", reverse=True)
        rest = "the rest was answered" if cut else ""
        titled(
            axes,
            title,
            f"error bars: 95% Wilson interval of all failures, {calls_per_point(failures['calls'])}",
            rest,
            note,
        )
    return axes


def _shares(failed: pd.DataFrame, kind: Kind, x: str, scale: Scale) -> tuple[dict[str, Any], str]:
    """Return for each outcome, the most frequent first, its share at each place; the rarest are taken together."""
    totals = failed.groupby(kind, observed=True)[_counted(kind)].sum().sort_values(ascending=False, kind="stable")
    shares = {}
    for word in totals.index:
        rows = failed[failed[kind] == word]
        shares[str(word)] = np.zeros(len(scale.values))
        shares[str(word)][scale.positions(rows[x]).astype(int)] = rows["rate"]
    if len(shares) <= _MOST_KINDS:
        return shares, ""
    kept, rare = list(shares)[: _MOST_KINDS - 1], list(shares)[_MOST_KINDS - 1 :]
    together = sum(shares[word] for word in rare)
    return {word: shares[word] for word in kept} | {f"{len(rare)} others": together}, f"others: {', '.join(rare)}"


def _counted(kind: Kind) -> str:
    return "failures" if kind == "reason" else "ended"


def _draw_stack(ax: Axes, scale: Scale, shares: dict[str, Any]) -> None:
    places = np.arange(len(scale.values))
    edges: dict[str, Any] = {"edgecolor": "white", "linewidth": 0.8 if len(places) <= MOST_BARS else 0}
    width = bar_width(len(places))
    bottom = np.zeros(len(places))
    for word, heights in shares.items():
        style = OUTCOMES.get(word, _OTHER)
        ax.bar(places, heights, width, bottom, color=style.color, hatch=style.hatch, label=word, **edges)
        bottom = bottom + heights
    style = OUTCOMES[Fate.ANSWERED]
    ax.bar(places, 1 - bottom, width, bottom, color=style.color, hatch=style.hatch, label=str(Fate.ANSWERED), **edges)


def _draw_total(ax: Axes, places: Any, failures: pd.DataFrame) -> None:
    if len(places) > MOST_BARS:
        return
    rates = failures["failure_rate"].to_numpy()
    reach = [rates - failures["failure_rate_low"].to_numpy(), failures["failure_rate_high"].to_numpy() - rates]
    ax.errorbar(places, rates, yerr=np.clip(reach, 0, None), fmt="none", ecolor="black", elinewidth=1.2, label="_")
