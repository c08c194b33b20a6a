"""A run of a sweep: what was set, and what was recorded.

Look next at `experiment.py`, which makes runs, and at `sweep_result.py`, which holds them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from llmlab.backends.server_view import ServerView
    from llmlab.core.event_log import EventLog


class RunLog(NamedTuple):
    """What one run recorded.

    `started_at_s` is when it began, on its loop's clock; `wall_s` how long it took, in real seconds; `server` is the
    simulated server's own view, where there is one.
    """

    log: EventLog
    started_at_s: float
    wall_s: float
    server: ServerView | None = None


class Run(NamedTuple):
    """One run of a sweep: the swept settings, the replicate (from 0), the seed, and what was recorded.

    A stored run has a `key` and no `record`.
    """

    settings: dict[str, Any]
    replicate: int
    seed: int
    record: RunLog | None
    key: str = ""


class FailedRun(NamedTuple):
    """A run of a sweep that could not be finished: its backend raised, or its worker process died twice.

    `reason` says in a line what happened; `traceback` is where, as text, and empty where nobody knows.
    """

    settings: dict[str, Any]
    replicate: int
    seed: int
    reason: str
    traceback: str = ""
