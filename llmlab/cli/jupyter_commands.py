"""The commands `llmlab lab` and `llmlab dashboard`: their options and their help."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmlab.cli.options import Port

Browser = Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser there.")]


def lab(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Where the notebooks are copied to; made if missing.")
    ] = Path("llmlab-notebooks"),
    port: Port = 8888,
    browser: Browser = True,
    allow_root: Annotated[bool, typer.Option("--allow-root", help="JupyterLab refuses to run as root without it.")] = (
        False
    ),
) -> None:
    """Open JupyterLab on llmlab's notebooks.

    They are copied to DIR, yours to change: what is there is never written over.
    It listens on this machine alone, behind a token. Ctrl-C ends it.

    \b
    Examples:
      llmlab lab
      llmlab lab ~/llm-failures --port 0 --no-browser
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
    from llmlab.cli.lab import run  # noqa: PLC0415 - late: only this command needs it

    run(folder=folder, port=port, open_browser=browser, allow_root=allow_root)


def dashboard(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="What to start from: a sweep, as .toml or .json.")
    ] = None,
    port: Port = 8866,
    browser: Browser = True,
    dark: Annotated[bool, typer.Option("--dark", help="Light on dark.")] = False,
) -> None:
    """Serve the dashboard alone, as a page without a notebook.

    What it saves and exports goes to the present folder. It listens on this
    machine alone, behind a token, and asks no other. Ctrl-C ends it.

    \b
    Examples:
      llmlab dashboard
      llmlab dashboard retries.toml --dark
    """  # noqa: D301 - see above
    from llmlab.cli.dashboard import run  # noqa: PLC0415 - late: only this command needs it

    run(file=file, port=port, open_browser=browser, theme="dark" if dark else "light")
