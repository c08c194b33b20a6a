"""`llmlab schema`: the JSON schema of the files that `llmlab sweep FILE` takes."""

from __future__ import annotations

import json

from llmlab.cli.console import ends_with_a_code, say
from llmlab.experiments.sweep import Sweep


def run() -> None:
    """Write the schema.

    Raises:
        typer.Exit: nobody reads the output any more (141).
    """
    with ends_with_a_code():
        say(json.dumps(Sweep.json_schema(), indent=2))
