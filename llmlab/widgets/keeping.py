"""What leaves the dashboard and comes back: files of settings, charts and reports, and errors in words."""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING

from llmlab.analysis.recommend import recommend
from llmlab.core.settings import SettingsError
from llmlab.experiments.store.files import write_whole
from llmlab.experiments.sweep import Sweep
from llmlab.reports.document import checked_path, report
from llmlab.widgets.controls import BY_PATH
from llmlab.widgets.views import image_of

if TYPE_CHECKING:
    from pathlib import Path

    from llmlab.analysis.slo import SLO
    from llmlab.experiments.sweep_result import SweepResult
    from llmlab.plots.selection import Panel

_MOST_AXES = 2


def shown_sweep(path: str | Path) -> Sweep:
    """Return the sweep in a file, if the dashboard can show it.

    Raises:
        SettingsError: the file cannot be read, or its sweep has more than the dashboard shows.
    """
    sweep = Sweep.load(path)
    advice = f"run it with `llmlab sweep {path}` instead"
    if sweep.zipped or sweep.samples or sweep.where or sweep.until is not None:
        raise SettingsError(f"{path}: the dashboard shows grids only, no zipped lists, samples or conditions; {advice}")
    unknown = [name for name in sweep.grid if name not in BY_PATH or not BY_PATH[name].swept]
    if unknown or len(sweep.grid) > _MOST_AXES:
        what = f"does not sweep over '{unknown[0]}'" if unknown else f"sweeps over {_MOST_AXES} settings at the most"
        raise SettingsError(f"{path}: the dashboard {what}; {advice}")
    return sweep


def save_chart(panel: Panel, path: str) -> Path:
    """Write a chart as an image, PNG or SVG by the file's ending.

    Raises:
        SettingsError: there is no such folder.
        OSError: the file cannot be written.
    """
    file = checked_path(path)
    write_whole(file, image_of(panel, "svg" if file.suffix == ".svg" else "png"))
    return file


def save_report(result: SweepResult, path: str, slo: SLO | None) -> Path:
    """Write all that there is to say of a result as one HTML file; see `llmlab.report`."""
    return report(result, path, recommendation=None if slo is None else recommend(result, slo))


def told(error: BaseException | str) -> str:
    """Return an error in words: those of a wrong setting say themselves what to do, others say where it happened."""
    if isinstance(error, str):
        return f"Error: {error}"
    if isinstance(error, SettingsError | OSError):
        return f"Error: {error}"
    where = "".join(traceback.format_exception(error)[-2:]).strip()
    said = f"Error: {type(error).__name__}: {error}"
    return f"{said}\nA bug, in llmlab or in a part of your own; where it happened:\n{where}"
