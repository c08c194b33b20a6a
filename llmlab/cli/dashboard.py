"""`llmlab dashboard`: the dashboard alone, as a page that Voila serves."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.cli.console import ends_with_a_code
from llmlab.cli.jupyter import free_port, needs, serve
from llmlab.core.settings import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterator

_TEMPLATES = Path(__file__).parent / "voila_data"
"""A folder of Jupyter's data with a template for Voila: its own, without what that loads from another machine."""


def run(*, file: Path | None, port: int, open_browser: bool, theme: str) -> None:
    """Serve it until Ctrl-C; what it saves goes to the present folder.

    Raises:
        typer.Exit: Voila is not installed, or the file or the port cannot be used (2), Ctrl-C (130), or as Voila ends.
    """
    with ends_with_a_code():
        needs("voila", "dashboard")
        port = free_port(port)
        if file is not None and not file.is_file():
            raise SettingsError(f"there is no file '{file}'; name one that the dashboard, or `Sweep.save`, has saved")
        os.environ["JUPYTER_PATH"] = os.pathsep.join(filter(None, [str(_TEMPLATES), os.environ.get("JUPYTER_PATH")]))
        with tempfile.TemporaryDirectory(prefix="llmlab-") as folder:
            (Path(folder) / "dashboard.ipynb").write_text(page(Path.cwd(), file), encoding="utf-8")
            command = ["voila", "dashboard.ipynb", "--template=llmlab", f"--theme={theme}"]
            serve("dashboard", command, port=port, path="/", open_browser=open_browser, folder=Path(folder))


def page(folder: Path, file: Path | None) -> str:
    """Return the notebook that Voila shows: one cell."""
    cell: dict[str, Any] = {
        "cell_type": "code",
        "execution_count": None,
        "id": "dashboard",
        "metadata": {},
        "outputs": [],
        "source": "\n".join(_lines(folder, file)),
    }
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return json.dumps({"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5})


def _lines(folder: Path, file: Path | None) -> Iterator[str]:
    yield "import os"
    yield "from llmlab.widgets import SweepDashboard"
    yield f"os.chdir({str(folder)!r})"
    yield "dashboard = SweepDashboard()"
    if file is not None:
        yield f"dashboard.load({str(file.resolve())!r})"
    yield "dashboard"
