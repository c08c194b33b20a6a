"""Rows of a user's own data: the part that reading prompts and reading recorded arrivals have in common.

A row comes with the place where it stands, so that an error can say where to look. Errors never quote what they found:
it may be a prompt. Look next at `prompts.py` and at `TraceArrivals` in `arrivals.py`.
"""

from __future__ import annotations

import csv
import difflib
import itertools
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import Settings, SettingsError

if TYPE_CHECKING:
    from typing import TypeGuard

    import pandas as pd

    Source = str | os.PathLike[str] | pd.DataFrame | Iterable[Any]
    """A file's name (`.csv`, `.jsonl`, `.ndjson`), a data frame, or any series of values."""

MAX_LINE_BYTES = 16 * 1024**2
"""The longest line that is read, unless said otherwise; the longest context of today's models is about 4 MB of text."""


def rows(source: object, column: str, *, max_line_bytes: int = MAX_LINE_BYTES) -> Iterator[tuple[str, Any]]:
    """Yield where each row stands, and its value.

    That is the cell in `column` of a CSV file (a text) or of a data frame; the whole value of a line of JSON; an item.

    Raises:
        SettingsError: the source is of no such kind, a file does not keep its format, or there is no such column.
        OSError: a file cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        yield from _file_rows(source, column, max_line_bytes)
    elif _is_data_frame(source):
        place = _place(column, list(source.columns), "the data frame")
        for number, value in enumerate(source.iloc[:, place], 1):
            yield f"row {number}", value
    elif isinstance(source, Iterable) and not isinstance(source, bytes | bytearray | Mapping | Settings):
        for number, value in enumerate(source, 1):
            yield f"item {number}", value
    else:
        raise SettingsError(
            f"the source must be a list, a data frame or the name of a file, got a {type(source).__name__}"
        )


def field(where: str, value: Mapping[Any, Any], column: str) -> Any:
    """Return one field of an object.

    Raises:
        SettingsError: it has no such field.
    """
    if column not in value:
        raise SettingsError(f"{where}: there is no field '{column}'{_hint(column, value)}")
    return value[column]


def described(value: object) -> str:
    """Name a wrong value without showing it."""
    pandas = sys.modules.get("pandas")
    nothing = [None] if pandas is None else [None, pandas.NA, pandas.NaT]
    if any(value is one for one in nothing) or (isinstance(value, float) and value != value):  # noqa: PLR0124 - NaN
        return "nothing"
    return f"a {type(value).__name__}"


def _is_data_frame(source: object) -> TypeGuard[pd.DataFrame]:
    # Who has one has loaded pandas; a worker process, which has none, need not: that takes it half a second.
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def _file_rows(source: str | os.PathLike[str], column: str, max_line_bytes: int) -> Iterator[tuple[str, Any]]:
    path = Path(os.fsdecode(source))
    suffix = path.suffix.lower()
    if suffix == ".csv":
        yield from _csv_rows(path, column, max_line_bytes)
    elif suffix in {".jsonl", ".ndjson"}:
        yield from _json_rows(path, max_line_bytes)
    else:  # what was meant as a prompt must not come back in an error
        raise SettingsError(
            f"a {type(source).__name__} is taken as a file's name, which must end in .csv, .jsonl or .ndjson; "
            "give values in a list"
        )


def _json_rows(path: Path, max_line_bytes: int) -> Iterator[tuple[str, Any]]:
    for number, line in _lines(path, max_line_bytes):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise SettingsError(f"{where}: not valid JSON: {error.msg} (column {error.colno})") from None
        except (ValueError, RecursionError):
            raise SettingsError(f"{where}: a number is too long, or the nesting too deep") from None
        yield where, value


def _csv_rows(path: Path, column: str, max_line_bytes: int) -> Iterator[tuple[str, Any]]:
    reader = csv.reader((line for _, line in _lines(path, max_line_bytes)), strict=True)
    place = width = None
    while True:
        where = f"{path}, line {reader.line_num + 1}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            advice = f"; JSON lines takes longer texts than {csv.field_size_limit()}" if "limit" in str(error) else ""
            raise SettingsError(f"{where}: not valid CSV: {error}{advice}") from None
        if cells is None:
            break
        if not cells:  # a blank line
            continue
        if place is None:
            place, width = _place(column, cells, where), len(cells)
        elif len(cells) != width:
            raise SettingsError(
                f"{where}: the number of cells is {len(cells)}, in the first row {width}; quote texts with commas"
            )
        else:
            yield where, cells[place]
    if place is None:
        raise SettingsError(f"{path}: the file is empty; its first row must name the columns")


def _lines(path: Path, limit: int) -> Iterator[tuple[int, str]]:
    try:
        file = path.open("rb")
    except ValueError:
        raise SettingsError("the name of a file holds a character that no file's name can hold") from None
    with file:
        for number in itertools.count(1):
            line = file.readline(limit + 1)  # never more than that in memory, whatever the file is
            if not line:
                return
            if len(line) > limit:
                raise SettingsError(f"{path}, line {number}: longer than max_line_bytes={limit}")
            try:
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError:
                raise SettingsError(f"{path}, line {number}: not in UTF-8; save the file in that encoding") from None


def _place(column: str, columns: Sequence[object], where: str) -> int:
    """Return the column's place. The others are counted, not named: without a header they would be prompts."""
    places = [place for place, name in enumerate(columns) if isinstance(name, str) and name == column]
    if len(places) == 1:
        return places[0]
    if places:
        raise SettingsError(f"{where}: {len(places)} columns are called '{column}'; rename all but one")
    raise SettingsError(
        f"{where}: none of the {len(columns)} columns is called '{column}'{_hint(column, columns)}; "
        "say which to take with column="
    )


def _hint(column: str, names: Iterable[object]) -> str:
    close = difflib.get_close_matches(column, [name for name in names if isinstance(name, str)], n=1, cutoff=0.6)
    return f" (did you mean '{close[0]}'?)" if close else ""
