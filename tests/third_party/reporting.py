"""What the client programs share: calls to each of several servers, and a line for each call that says how it ended.

A program takes its orders as one JSON object: `timeout` (seconds), `calls` (to each server, one after the other) and
`servers`, each with its `url`, `model` and `stream`. An answer is reported as `answered` where the client raised
nothing: that is all that a program sees which was written in a minute. All servers are asked by one process, for to
load some clients takes seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def report_calls(connect: Callable[..., Callable[[str], object]]) -> None:
    """Make the calls that were ordered and write a line of outcome for each.

    Args:
        connect: makes a client from `url`, `model`, `stream` and `timeout`; returns a function that asks one prompt.
    """
    orders = json.loads(sys.argv[1])
    for server in orders["servers"]:
        ask = connect(**server, timeout=orders["timeout"])
        for number in range(orders["calls"]):
            started = time.time()
            said = _asked(ask, f"Tell me fact number {number}.")
            line = {**said, "started_at": started, "ended_at": time.time()}
            print(json.dumps({"url": server["url"], **line}), flush=True)


def _asked(ask: Callable[[str], object], prompt: str) -> dict[str, Any]:
    try:
        ask(prompt)
    except Exception as error:  # noqa: BLE001 - whatever a foreign client raises is its report
        return {"outcome": "failed", "error": type(error).__name__}
    return {"outcome": "answered"}
