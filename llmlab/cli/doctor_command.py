"""The command `llmlab doctor`: its options and its help; its work stands in `doctor.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def doctor(
    store: Annotated[
        Path, typer.Option(metavar="DIR", help="Where results are to be stored: can they be written there?")
    ] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a report.")] = False,
) -> None:
    """Look whether all that llmlab needs is there and works.

    Versions, virtual time, a store that can be written, worker processes, charts,
    Jupyter with its widgets, Ollama; and what to do about each problem. What
    llmlab works without is a note. Asks nothing but the Ollama that you use.

    Ends with 1 if there is a problem.

    \b
    Examples:
      llmlab doctor
      llmlab doctor --store /data/results --json
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
    from llmlab.cli.doctor import run  # noqa: PLC0415 - late: only this command needs it

    run(store=store, as_json=as_json)
