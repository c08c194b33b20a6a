"""What a reader sees on axes, as plain values."""

from llmlab.plots.style import SUBTITLE


def title(ax):
    return ax.get_title(loc="left")


def subtitle(ax):
    return " ".join(text.get_text() for text in ax.texts if text.get_gid() == SUBTITLE).replace("\n", " ")


def legend_title(ax):
    return ax.get_legend().get_title().get_text()


def legend_texts(ax):
    return [text.get_text() for text in ax.get_legend().get_texts() if text.get_text()]


def texts(ax, gid):
    return [text.get_text() for text in ax.texts if text.get_gid() == gid]


def points(container):
    line = container.lines[0]
    return list(line.get_xdata()), list(line.get_ydata())


def bars(container):
    """Return the vertical error bars as (low, high)."""
    return [(segment[0][1], segment[1][1]) for segment in container.lines[2][0].get_segments()]


def tick_labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


def drawn(ax):
    """Draw the whole figure, so that whatever would fail at saving fails here."""
    ax.figure.draw_without_rendering()
    return ax
