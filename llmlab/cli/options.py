"""Checks of the commands' options, in our words: typer's differ from release to release and hide the value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

_LAST_PORT = 65535


def at_least(lowest: int) -> Callable[[int | None], int | None]:
    """Return the check that a number is not less than this."""

    def check(value: int | None) -> int | None:
        if value is not None and value < lowest:
            raise typer.BadParameter(f"must be {lowest} or more, got {value}")
        return value

    return check


def positive(value: float | None) -> float | None:
    """Refuse what is no finite number above 0."""
    if value is not None and not 0 < value < math.inf:  # also refuses NaN
        raise typer.BadParameter(f"must be a number above 0, got {value:g}")
    return value


def probability(value: float) -> float:
    """Refuse what is no probability."""
    if not 0 <= value <= 1:  # also refuses NaN
        raise typer.BadParameter(f"must be between 0 and 1, got {value:g}")
    return value


def _port(value: int) -> int:
    if not 0 <= value <= _LAST_PORT:
        raise typer.BadParameter(f"must be from 0 to {_LAST_PORT}, got {value}")
    return value


Port = Annotated[int, typer.Option(callback=_port, help="0 takes a free one.")]
"""Where a command listens."""
