"""A figure as the bytes of an image, the same bytes for the same figure."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import matplotlib as mpl

from llmlab.plots.style import STYLE, STYLE_LOCK

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def svg(figure: Figure) -> bytes:
    """Return a figure as SVG. Texts are drawn as shapes, so that it looks the same without its fonts."""
    image = io.BytesIO()
    # The salt names what is defined once and used often; without it the names are drawn by chance, and with the date
    # two files of one figure would differ.
    with STYLE_LOCK, mpl.rc_context(STYLE | {"svg.hashsalt": "llmlab", "svg.fonttype": "path"}):
        figure.savefig(image, format="svg", metadata={"Date": None, "Creator": None})
    return image.getvalue()
