"""The command `llmlab calibrate`: its options and its help; its work stands in `calibrate.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def calibrate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="What was recorded; see below.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="A .toml or .json to write the simulated server to."),
    ] = None,
    held_out: Annotated[
        Path | None, typer.Option("--held-out", metavar="RUN2", help="Another recording, to be predicted.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of tables.")] = False,
) -> None:
    """Fit a simulated server to a real one, by what clients recorded of it.

    RUN is a file that a JsonLinesObserver wrote, in your application or in an
    experiment, or the folder of a sweep's results. It says what was told, how
    sure that is, what could not be told, and what to measure for it.

    With --held-out it predicts another recording, best of a load that RUN does
    not have, and says how far off that is. FILE is a sweep's: its base has the
    simulated server, and `llmlab sweep FILE` runs it.

    \b
    Examples:
      llmlab calibrate events.jsonl
      llmlab calibrate events.jsonl --out server.toml --held-out peak.jsonl
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
    from llmlab.cli.calibrate import run as carry_out  # noqa: PLC0415 - late: pandas and scipy take a second to load

    carry_out(source=run, out=out, held_out=held_out, as_json=as_json)
