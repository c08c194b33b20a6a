"""Several small charts as one: panels under each other inside of given axes, all over the same horizontal axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.transforms import offset_copy

from llmlab.plots.style import dress, height_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.axes import Axes

PANEL_HEIGHT, AROUND_PANELS = 1.15, 1.3
"""Inches of a panel with its label, and of all else in a figure of panels."""

_LABEL = 0.36  # inches of a panel that its label takes


def panels(ax: Axes, labels: Sequence[str], *, xlabel: str) -> list[Axes]:
    """Make a panel for each label, from the top, and hide the axes around them; they are its `child_axes`.

    A label stands over its panel, where it can be read without turning one's head.
    """
    ax.set_axis_off()
    pitch = 1 / len(labels)
    label = min(0.5 * pitch, _LABEL / height_of(ax))
    figure: Any = ax.figure
    made: list[Axes] = []
    for number, text in enumerate(labels):
        place = (0.0, 1 - (number + 1) * pitch, 1.0, pitch - label)
        panel = ax.inset_axes(place, sharex=made[0] if made else None)
        dress(panel)
        panel.set_ylabel(text, rotation=0, ha="left", va="bottom")
        panel.yaxis.set_label_coords(0, 1, transform=offset_copy(panel.transAxes, figure, y=3, units="points"))
        panel.tick_params(labelbottom=number == len(labels) - 1)
        made.append(panel)
    made[-1].set_xlabel(xlabel)
    return made
