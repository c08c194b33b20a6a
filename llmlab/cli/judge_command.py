"""The command `llmlab judge`: its options and its help; its work stands in `judge.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from llmlab.cli.options import at_least, positive


def judge(  # noqa: PLR0917 - typer takes options from parameters
    recording: Annotated[Path, typer.Argument(metavar="RECORDING", help="What `llmlab serve --record` wrote.")],
    deadline: Annotated[
        float | None,
        typer.Option(callback=positive, metavar="S", help="Seconds that a call may take, retries included."),
    ] = None,
    outcomes: Annotated[
        Path | None, typer.Option(metavar="FILE", help="What the client made of its calls; see above.")
    ] = None,
    max_amplification: Annotated[
        float | None,
        typer.Option(
            callback=positive,
            metavar="X",
            help="Requests that a call may make under faults, in the mean.  [default: 4]",
        ),
    ] = None,
    max_in_flight: Annotated[
        int | None, typer.Option(callback=at_least(1), metavar="N", help="Requests that may be in flight at once.")
    ] = None,
    client_ended: Annotated[
        bool, typer.Option("--client-ended", help="It had ended before the server: no connection may be left.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON instead of a report.")] = False,
) -> None:
    """Judge how a client behaved towards the fault server.

    Did it retry what it must not, ignore Retry-After, storm, hang, leak
    connections, take half an answer for a whole? What the recording cannot tell
    is called unknown. Ends with 1 if the client is guilty of anything.

    Only the client knows what it made of an answer. It can write a FILE of
    outcomes, a line for each call, times in seconds since 1970:

    \b
      {"outcome": "answered", "started_at": 1764043200, "ended_at": 1764043201.5}

    or "failed". Where calls do not overlap, that also tells which requests belong
    to which call.

    \b
    Examples:
      llmlab judge conduct.jsonl
      llmlab judge conduct.jsonl --deadline 30 --client-ended
      llmlab judge conduct.jsonl --outcomes outcomes.jsonl --json
    """  # noqa: D301 - see above
    from llmlab.cli.judge import run  # noqa: PLC0415 - late: only this command needs it

    run(
        recording=recording,
        outcomes=outcomes,
        as_json=as_json,
        standards={
            "deadline": deadline,
            "max_amplification": max_amplification,
            "max_in_flight": max_in_flight,
            "client_ended": client_ended,
        },
    )
