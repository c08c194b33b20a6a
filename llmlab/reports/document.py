"""`report`: a result as one HTML file."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from llmlab import __version__
from llmlab.analysis.recommendation import Recommendation
from llmlab.core.settings import SettingsError
from llmlab.experiments.store.files import write_whole
from llmlab.experiments.sweep_result import SweepResult
from llmlab.reports import sections
from llmlab.reports.markup import element, page, text

if TYPE_CHECKING:
    import os


def report(
    result: SweepResult,
    path: str | os.PathLike[str],
    *,
    recommendation: Recommendation | None = None,
    title: str = "How the client behaved",
) -> Path:
    """Write a result into one HTML file: what was run, numbers, failures, charts and what is recommended.

        slo = SLO(success_rate=0.99, p95_latency_s=5)
        report(result, "out.html", recommendation=recommend(result, slo))

    The file needs nothing else: no script, no font, no network. It holds no prompts. It is written whole or not at all,
    over an earlier one, and is the same for the same result.

    Args:
        result: what an experiment or a sweep brought.
        path: of the file; its folder must be there.
        recommendation: what `recommend` says of it.
        title: of the page.

    Returns:
        The file's path.

    Raises:
        SettingsError: there is no such folder, or the path is a folder; or what is given is no result, or no
            recommendation.
        OSError: the file cannot be written.
    """
    if not isinstance(result, SweepResult):
        raise SettingsError(f"result must be what a sweep brought, a SweepResult, got a {type(result).__name__}")
    if not isinstance(recommendation, Recommendation | None):
        raise SettingsError(f"recommendation must be that of recommend(), got a {type(recommendation).__name__}")
    file = checked_path(path)
    body = [
        element("header", element("h1", text(title)), element("p", text(f"llmlab {__version__}"), class_="faint")),
        sections.recommended(recommendation),
        sections.what_was_run(result),
        sections.charts(result, recommendation),
        sections.numbers(result),
        sections.failures(result),
    ]
    style = resources.files("llmlab.reports").joinpath("report.css").read_text(encoding="utf-8")
    write_whole(file, page(title, style, body).encode())
    return file


def checked_path(path: str | os.PathLike[str]) -> Path:
    """Return the path of a file to be written, before the work that would be lost.

    Raises:
        SettingsError: its folder is not there, or it is a folder itself.
    """
    file = Path(path)
    if file.is_dir() or not file.parent.is_dir():
        what = "it is a folder" if file.is_dir() else f"there is no folder '{file.parent}'"
        raise SettingsError(f"the report cannot be written to '{file}': {what}; name a file in a folder that is there")
    return file
