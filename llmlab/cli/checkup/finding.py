"""One line of a checkup: what was looked at, how it is, and what to do about it."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "note", "problem"]
"""A `note` is about something that llmlab works without; a `problem` is not."""


class Finding(NamedTuple):
    """What a check found.

    Attributes:
        subject: what was looked at.
        state: how it is.
        said: what was seen.
        do: what to do about it; "" where there is nothing to do.
    """

    subject: str
    state: State
    said: str
    do: str = ""
