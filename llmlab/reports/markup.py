"""HTML as values: what is given as a text is escaped, and only what was made here counts as HTML.

Names of models and settings come from users, and reasons from servers; none of them may become part of the page.
"""

from __future__ import annotations

import base64
import html
import itertools
from collections.abc import Iterable, Sequence
from typing import NewType

Html = NewType("Html", str)
"""HTML that is safe to put into a page."""

_LANGUAGE = "en"


def text(content: object) -> Html:
    """Return a text as HTML."""
    return Html(html.escape(str(content)))


def join(parts: Iterable[Html]) -> Html:
    """Return pieces of HTML one after the other."""
    return Html("\n".join(parts))


def element(tag: str, *children: Html, **attributes: str) -> Html:
    """Return an element around its children; its attributes are escaped.

    A keyword's trailing underscore is left out (`class_`), other underscores become dashes.
    """
    names = {name.rstrip("_").replace("_", "-"): value for name, value in attributes.items()}
    opening = "".join(f' {name}="{html.escape(value)}"' for name, value in names.items())
    inner = "".join(children)
    return Html(f"<{tag}{opening}>{inner}</{tag}>")


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    texts: frozenset[int] = frozenset(),
    notes: Iterable[str] = (),
    caption: str = "",
) -> Html:
    """Return a table that scrolls by itself where it is wider than the page.

    Args:
        head: the columns' names.
        rows: the cells.
        texts: the numbers of the columns that hold prose, which stand to the left; the others are numbers.
        notes: for each row what is said of it in a line of its own below it; nothing where empty.
        caption: what it shows.
    """
    sides = ["text" if number in texts else "number" for number in range(len(head))]
    top = [element("th", text(name), scope="col", class_=side) for name, side in zip(head, sides, strict=True)]
    said = [element("caption", text(caption))] if caption else []
    body = []
    for row, note in zip(rows, itertools.chain(notes, itertools.repeat("")), strict=False):
        cells = [element("td", text(cell), class_=side) for cell, side in zip(row, sides, strict=True)]
        below = element("tr", element("td", text(note), colspan=str(len(head)), class_="note-of-row"))
        body.append(element("tbody", element("tr", *cells), *([below] if note else [])))
    whole = element("table", *said, element("thead", element("tr", *top)), join(body))
    return element("div", whole, class_="scroll", tabindex="0")


def picture(svg: bytes, description: str) -> Html:
    """Return an image whose data are part of the page; as an image, an SVG runs no script and loads nothing."""
    data = base64.b64encode(svg).decode("ascii")
    return Html(f'<img alt="{html.escape(description)}" src="data:image/svg+xml;base64,{data}">')


def page(title: str, style: str, body: Iterable[Html]) -> str:
    """Return a whole document. Its policy forbids scripts and everything from outside."""
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    return (
        f'<!DOCTYPE html>\n<html lang="{_LANGUAGE}">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n<body>\n{join(body)}\n</body>\n</html>\n"
    )
