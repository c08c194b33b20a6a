"""The command `llmlab serve`: its options and its help; its work stands in `serve.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmlab.cli.options import Port

SETTINGS = {"allow_extra_args": True, "ignore_unknown_options": True}
"""The options for the probabilities of faults are read in `serve.py`: their names are those of the one vocabulary."""


def serve(  # noqa: PLR0917 - typer takes options from parameters
    context: typer.Context,
    profile: Annotated[
        str | None, typer.Option(metavar="NAME", help="A server that queues: ollama, vllm or hosted-api.")
    ] = None,
    backend: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A MockBackend's settings, or a sweep, as .toml or .json.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes all chance.  [default: 0, or the FILE's]")] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Record what clients do, for `llmlab judge`; a new file.")
    ] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="A real server to stand in front of, with faults.")
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Where to listen; this machine alone.")] = "127.0.0.1",
    port: Port = 11435,
) -> None:
    """Serve a misbehaving model server, to try any client against.

    It speaks Ollama's API and OpenAI's chat completions, needs no model, and
    fails as often as you say. Every fault has its own probability:

    \b
      --timeout-probability 0.2   --overload-probability 0.1
      --stall-probability 0.05    --cut-probability 0.05

    and so on for all faults in the guide's table. The same seed gives the
    same faults: by call and attempt for llmlab's clients, by order of arrival
    for others. A browser sees live counts at its address; the weather can be
    changed while it runs (PATCH /__llmlab__/weather). Ctrl-C ends it.

    \b
    Examples:
      llmlab serve --timeout-probability 0.2 --seed 7
      llmlab serve --profile ollama --record conduct.jsonl
      llmlab serve --backend weather.toml --port 0
      llmlab serve --upstream http://127.0.0.1:11434 --cut-probability 0.1
    """  # noqa: D301 - \b keeps typer from joining the lines that follow
    from llmlab.cli.serve import run  # noqa: PLC0415 - late, so that --help answers at once

    run(
        probabilities=context.args,
        profile=profile,
        backend=backend,
        seed=seed,
        record=record,
        upstream=upstream,
        host=host,
        port=port,
    )
