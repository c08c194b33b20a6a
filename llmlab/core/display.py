"""How a value looks in a terminal and in a notebook's cell: the one maker of both, for every part of llmlab.

As text a value is one line, or where that would be too long one line for each of its parts. As HTML it is a small card
or a table. Colours are the notebook's own by its variables; in any other page text is inherited and lines are a grey
that shows on light and on dark, so nothing has to ask for the theme. Every text is escaped. A whole page is made by
`llmlab.reports`.
"""

from __future__ import annotations

import textwrap
from enum import StrEnum
from html import escape
from pprint import pformat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 88
"""The longest line of a value's text before it is broken; what stands around it may indent it further."""
_MOST_VALUES = 20
_MOST_ROWS = 40
_SENTENCE = 40  # characters from which on a cell holds prose

_INK = "color:var(--jp-content-font-color1,inherit)"
_LINE = "border:0;border-bottom:1px solid var(--jp-border-color2,rgba(128,128,128,.45))"
_CELL = f"{_INK};{_LINE};background:none;padding:2px 14px 2px 0;vertical-align:top"
_TEXT = f"{_CELL};text-align:left;white-space:pre-wrap;overflow-wrap:anywhere"
_WORDS = f"{_CELL};text-align:left;overflow-wrap:normal;word-break:normal"
_NUMBER = f"{_CELL};text-align:right;font-variant-numeric:tabular-nums"
_TABLE = f"{_INK};border-collapse:collapse;margin:4px 0"


def laid_out(name: str, parts: Iterable[tuple[str | None, Any]]) -> str:
    """Return a value as it would be written, `Name(part=..., ...)`, broken into lines where it is long."""
    shown = [f"{part}={as_text(value, at=len(part) + 1)}" if part else as_text(value) for part, value in parts]
    line = f"{name}({', '.join(shown)})"
    if len(line) <= WIDTH and "\n" not in line:
        return line
    inside = "".join(f"{one},\n" for one in shown)
    return f"{name}(\n{textwrap.indent(inside, '    ')})"


def as_text(value: Any, *, at: int = 0) -> str:
    """Return a part's repr, which begins in the column `at`; of a long list only how many entries it has."""
    if isinstance(value, StrEnum):
        return repr(str(value))
    if type(value) in (list, tuple, set, frozenset, dict):
        if len(value) > _MOST_VALUES:
            return f"<{len(value):,} values>"
        if isinstance(value, set | frozenset):
            return textwrap.fill(f"{{{', '.join(sorted(map(as_text, value)))}}}", WIDTH, subsequent_indent=" ")
        return pformat(value, width=WIDTH - at, compact=True, sort_dicts=False).replace("\n", "\n" + " " * at)
    return repr(value)


def card(title: str, rows: Iterable[tuple[str, object]], *, folded: Sequence[tuple[str, object]] = ()) -> str:
    """Return names and values under a title, as HTML.

    Args:
        title: what it is, in a few words.
        rows: the names with their values, which are shown as texts.
        folded: settings at their defaults, which are shown when asked for.
    """
    parts = [f"<b>{escape(title)}</b>", _pairs(rows)]
    if folded:
        word = "setting is" if len(folded) == 1 else "settings are"
        parts.append(f"<details><summary>{len(folded)} {word} at the default</summary>{_pairs(folded)}</details>")
    return _framed(parts)


def grid(title: str, head: Sequence[str], rows: Sequence[Sequence[object]], *, note: str = "") -> str:
    """Return a table under a title, as HTML; numbers stand to the right, with four figures, NaN as nothing.

    A table of more than 40 rows is cut, and says so.
    """
    top = "".join(f'<th style="{_WORDS};font-weight:bold" scope="col">{escape(name)}</th>' for name in head)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows[:_MOST_ROWS])
    more = [f"<div>... {len(rows) - _MOST_ROWS:,} more rows</div>"] if len(rows) > _MOST_ROWS else []
    said = [f"<div>{escape(note)}</div>"] if note else []
    table = f'<div style="overflow-x:auto"><table style="{_TABLE}"><tr>{top}</tr>{body}</table></div>'
    return _framed([f"<b>{escape(title)}</b>", *said, table, *more])


def listing(code: str) -> str:
    """Return code as it stands, but for lines that are too long, as HTML."""
    return f'<pre style="{_INK};background:none;margin:4px 0;white-space:pre-wrap">{escape(code)}</pre>'


def stacked(*parts: str) -> str:
    """Return pieces of HTML that this module has made, one below the other."""
    return f"<div>{''.join(parts)}</div>"


def _framed(parts: Iterable[str]) -> str:
    return f'<div style="{_INK};line-height:1.4;margin:4px 0">{"".join(part for part in parts if part)}</div>'


def _pairs(rows: Iterable[tuple[str, object]]) -> str:
    cells = "".join(
        f'<tr><th style="{_WORDS};white-space:nowrap;font-weight:normal" scope="row">{escape(name)}</th>'
        f'<td style="{_TEXT}">{escape(str(value))}</td></tr>'
        for name, value in rows
    )
    return f'<table style="{_TABLE}">{cells}</table>' if cells else ""


def _cell(value: object) -> str:
    if isinstance(value, float):  # numpy's too
        shown = "" if value != value else f"{value:.4g}"  # noqa: PLR0124 - NaN
        return f'<td style="{_NUMBER}">{shown}</td>'
    style = _NUMBER if isinstance(value, int) and not isinstance(value, bool) else _WORDS
    shown = str(value)
    wide = ";min-width:22em" if len(shown) > _SENTENCE else ""  # or a sentence would be squeezed to a word a line
    return f'<td style="{style}{wide}">{escape(shown)}</td>'
