"""What an exporter returns."""

from __future__ import annotations

from typing import NamedTuple


class Draft(NamedTuple):
    """Code, and how far it fulfils a policy's wishes.

    `kept` holds the wishes (`wishes.py`) that the client fulfils: nothing for those it fulfils to the letter, else how
    it differs.
    """

    code: str
    kept: dict[str, str]
