"""Events to data frames: one row per attempt, one row per call, columns as the catalogue declares them.

A frame is made of whole columns at a time, never of event objects, so a million events cost a fraction of a second.
Beside the catalogue's columns (`core/events.py`) stand a few *derived* ones, declared here in the same form; swept
parameters are plain extra columns in front, named by their path (`policy.retry.max_retries`).

A column of words is a `pandas.Categorical`. Where the vocabulary is closed its categories are all of its words, in
the catalogue's order, so frames of different runs have the same type and go together cheaply. Look next at
`metrics.py`, which turns frames into numbers.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from llmlab.arrow import arrow_table, codes_and_words, numbers
from llmlab.backends.server_view import SERVER_COLUMNS
from llmlab.core.event_log import ColumnTable
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, Column
from llmlab.core.vocabulary import Fate

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from llmlab.backends.server_view import ServerView
    from llmlab.core.event_log import EventLog

DERIVED_ATTEMPT_COLUMNS: tuple[Column, ...] = (
    Column("latency_s", "float", "s", "from its start to its end, however it ended: `ended_at_s - started_at_s`"),
    Column("answered", "bool", "", "whether it was answered, which is to say that it has no reason"),
)
"""The columns that `attempts_frame` appends to `ATTEMPT_COLUMNS`."""

DERIVED_CALL_COLUMNS: tuple[Column, ...] = (
    Column("latency_s", "float", "s", "from its arrival to its end, however it ended: `ended_at_s - arrived_at_s`"),
    Column("answered", "bool", "", "whether its fate is `answered`"),
)
"""The columns that `calls_frame` appends to `CALL_COLUMNS`."""

_DTYPES = {"float": np.dtype(np.float64), "int": np.dtype(np.int64), "bool": np.dtype(np.bool_)}


def attempts_frame(events: EventLog | pa.Table) -> pd.DataFrame:
    """Return the attempts that a log or an Arrow table of attempts holds, in the order in which they stand there.

    Columns: `ATTEMPT_COLUMNS`, then `DERIVED_ATTEMPT_COLUMNS`. The frame is a copy: it does not grow with the log.
    """
    table = events if isinstance(events, pa.Table) else arrow_table([events.attempt_table])
    columns = _columns(table, ATTEMPT_COLUMNS)
    columns["latency_s"] = columns["ended_at_s"] - columns["started_at_s"]
    columns["answered"] = columns["reason"].codes < 0
    return pd.DataFrame(columns, copy=False)


def calls_frame(events: EventLog | pa.Table) -> pd.DataFrame:
    """Return the calls that a log or an Arrow table of calls holds, in the order in which they stand there.

    Columns: `CALL_COLUMNS`, then `DERIVED_CALL_COLUMNS`. The frame is a copy: it does not grow with the log.
    """
    table = events if isinstance(events, pa.Table) else arrow_table([events.call_table])
    columns = _columns(table, CALL_COLUMNS)
    columns["latency_s"] = columns["ended_at_s"] - columns["arrived_at_s"]
    columns["answered"] = columns["fate"].codes == list(Fate).index(Fate.ANSWERED)
    return pd.DataFrame(columns, copy=False)


def server_frame(view: ServerView | pa.Table | None) -> pd.DataFrame:
    """Return a simulated server's own view, in order of time: each row holds until the next row's time.

    Columns: `SERVER_COLUMNS`. The frame is a copy, and has no rows where there is no view.
    """
    if not isinstance(view, pa.Table):
        view = arrow_table([ColumnTable(SERVER_COLUMNS) if view is None else view.table()])
    return declared_frame(view, SERVER_COLUMNS)


def declared_frame(table: pa.Table, declared: tuple[Column, ...]) -> pd.DataFrame:
    """Return the declared columns of an Arrow table, with the types that they are declared to have."""
    return pd.DataFrame(_columns(table, declared), copy=False)


def concat_frames(
    frames: Iterable[pd.DataFrame], parameters: Iterable[Mapping[str, object]] | None = None
) -> pd.DataFrame:
    """Return the rows of many frames as one frame, numbered anew; columns of words stay categorical.

    Args:
        frames: frames with the same columns. Where open vocabularies differ (layers, backends), their words are joined
            in order of appearance.
        parameters: for each frame the settings of the run that it came from, by path; each becomes a column in front.
            Numbers and booleans stay what they are, `None` becomes NaN ("there was no such setting"), and where there
            is anything else the column holds words: the values' texts, in order of appearance.

    Raises:
        ValueError: no frame was given, the columns differ, or the parameters are not one mapping for each frame with
            the same names, which no column may have already.
    """
    parts = list(frames)
    if not parts:
        raise ValueError("concat_frames needs at least one frame, got none")
    _refuse_different_columns(parts)
    whole = _restored_categories(pd.concat(parts, ignore_index=True), parts)
    if parameters is None:
        return whole
    columns = _parameter_values(list(parameters), parts)
    repeats = [len(part) for part in parts]
    constants = {name: parameter_column(values).repeat(repeats) for name, values in columns.items()}
    return pd.concat([pd.DataFrame(constants, index=whole.index), whole], axis="columns")


def parameter_columns(frame: pd.DataFrame) -> list[str]:
    """Return the columns that are declared nowhere, in order: the parameters, seeds and replicates of runs."""
    declared = (*ATTEMPT_COLUMNS, *DERIVED_ATTEMPT_COLUMNS, *CALL_COLUMNS, *DERIVED_CALL_COLUMNS, *SERVER_COLUMNS)
    known = {column.name for column in declared}
    return [str(name) for name in frame.columns if name not in known]


def parameter_column(values: Sequence[object]) -> Any:
    """Return settings, one for each run, as an array or a categorical; see `concat_frames` for what becomes of each."""
    if all(isinstance(value, bool | np.bool_) for value in values):
        return np.array(values, dtype=np.bool_)
    numbers = [value for value in values if isinstance(value, int | float | np.number) and not isinstance(value, bool)]
    if len(numbers) == len(values):
        return np.array(numbers)
    if all(value is None for value in values if not isinstance(value, int | float | np.number)) and numbers:
        return np.array(values, dtype=np.float64)
    texts = [None if value is None else str(value) for value in values]
    words = list(dict.fromkeys(text for text in texts if text is not None))
    codes = {None: -1} | {word: code for code, word in enumerate(words)}
    return pd.Categorical.from_codes([codes[text] for text in texts], categories=pd.Index(words, dtype="str"))


def dtype_of(column: Column) -> np.dtype[Any] | pd.CategoricalDtype:
    """Return the pandas type of a declared column; an open vocabulary gets a categorical type without categories."""
    if column.kind == "word":
        return _dtype_of_words(tuple(map(str, column.words))) if column.words else pd.CategoricalDtype()
    return _DTYPES[column.kind]


def _columns(table: pa.Table, declared: tuple[Column, ...]) -> dict[str, Any]:
    return {column.name: _column(column, table[column.name]) for column in declared}


def _column(column: Column, stored: pa.ChunkedArray) -> Any:
    # Copied for two reasons: the log's array cannot grow while numpy looks into it, and the frame is the user's own.
    if column.kind != "word":
        return numbers(stored).astype(_DTYPES[column.kind], copy=False)
    codes, words = codes_and_words(stored, tuple(map(str, column.words)))
    small: Any = codes.astype(np.int8 if len(words) <= np.iinfo(np.int8).max else np.int16)
    return pd.Categorical.from_codes(small, dtype=_dtype_of_words(tuple(words)), validate=False)


@lru_cache(maxsize=256)
def _dtype_of_words(words: tuple[str, ...]) -> Any:
    # One object for equal vocabularies: pandas compares types by identity first, which makes concatenation fast.
    return pd.CategoricalDtype(pd.Index(list(words), dtype="str"))


def _refuse_different_columns(parts: list[pd.DataFrame]) -> None:
    for number, part in enumerate(parts):
        differing = set(part.columns) ^ set(parts[0].columns)
        if differing:
            names = sorted(map(str, differing))
            raise ValueError(f"the frames must have the same columns; frame {number} and frame 0 differ in {names}")


def _restored_categories(whole: pd.DataFrame, parts: list[pd.DataFrame]) -> pd.DataFrame:
    # pandas makes texts of categorical columns whose categories differ. That is rare here, so it is mended afterwards.
    words_lost = [name for name, dtype in parts[0].dtypes.items() if dtype == "category" != whole[name].dtype]
    restored: dict[str, Any] = {}
    for name in words_lost:
        words = dict.fromkeys(word for part in parts for word in part[name].astype("category").cat.categories)
        restored[str(name)] = pd.Categorical(whole[name], categories=pd.Index(list(words), dtype="str"))
    return whole.assign(**restored)


def _parameter_values(parameters: list[Mapping[str, object]], parts: list[pd.DataFrame]) -> dict[str, list[object]]:
    if len(parameters) != len(parts):
        raise ValueError(f"there must be parameters for each frame; got {len(parameters)} for {len(parts)} frames")
    names = list(parameters[0])
    for number, mapping in enumerate(parameters):
        if set(mapping) != set(names):
            raise ValueError(f"frame {number} has the parameters {list(mapping)}, but frame 0 has {names}")
    taken = [name for name in names if name in parts[0].columns]
    if taken:
        raise ValueError(f"the frames already have the columns {taken}; parameters need names of their own")
    return {name: [mapping[name] for mapping in parameters] for name in names}
