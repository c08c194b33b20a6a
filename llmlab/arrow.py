"""Events as Arrow tables: the form in which they are stored, sent between processes and given to other tools.

A column of floats stays 64 bits, since times must still add up; whole numbers take 32 bits until one needs 64; words
are dictionaries. One log's numbers are not copied. `analysis/frames.py` makes data frames of these tables, and
`experiments/store` files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from llmlab.core.event_log import ColumnTable
    from llmlab.core.events import Column

RUN = "run"
"""The column that says which run a row comes from."""

_TYPES = {"float": pa.float64(), "int": pa.int64(), "bool": pa.bool_(), "word": pa.string()}
_DTYPES = {"float": np.dtype(np.float64), "int": np.dtype(np.int64), "bool": np.dtype(np.bool_)}
"""The same as numpy has them. Arrow could tell, but before pyarrow 26 would load pandas for it."""


def arrow_table(tables: Sequence[ColumnTable], *, starts: Sequence[float] | None = None) -> pa.Table:
    """Return the rows of one or more logs: the column `run` (a row's place in `tables`), then the columns they declare.

    Args:
        tables: the attempts, the calls or the server views of some runs; at least one.
        starts: for each of them the time that its clock showed at the start, to be taken from its points in time.
    """
    held = [table.arrays() for table in tables]
    words = [table.words() for table in tables]
    counts = [len(table) for table in tables]
    columns: dict[str, Any] = {RUN: arrow_array(np.repeat(np.arange(len(tables), dtype=np.int32), counts))}
    for column in tables[0].columns:
        name = column.name
        parts = [np.frombuffer(one[name], dtype=one[name].typecode) for one in held if len(one[name])]
        if column.kind == "word":
            vocabularies = [one[name] for one, count in zip(words, counts, strict=True) if count]
            columns[name] = _dictionary(parts, vocabularies or [words[0][name]])
            continue
        values = _joined(parts, _DTYPES[column.kind])
        if starts is not None and any(starts) and name.endswith("_at_s"):
            values = values - np.repeat(np.asarray(starts, dtype=np.float64), counts)
        columns[name] = _booleans(values) if column.kind == "bool" else arrow_array(values)
    return pa.Table.from_arrays(list(columns.values()), names=list(columns))


def arrow_array(values: NDArray[Any], *, validity: pa.Buffer | None = None) -> pa.Array:
    """Return numbers as they lie in memory: `pa.array` would load pandas first, a second of a worker."""
    values = np.ascontiguousarray(values)
    return pa.Array.from_buffers(pa.from_numpy_dtype(values.dtype), len(values), [validity, pa.py_buffer(values)])


def schema_of(columns: tuple[Column, ...], *, dictionaries: bool = False) -> pa.Schema:
    """Return the types in which stored rows of these columns are read: words as plain texts, unless told otherwise."""
    types = {**_TYPES, "word": pa.dictionary(pa.int32(), pa.string())} if dictionaries else _TYPES
    return pa.schema([(RUN, pa.int64()), *((column.name, types[column.kind]) for column in columns)])


def numbers(column: pa.ChunkedArray) -> NDArray[Any]:
    """Return a column of numbers or booleans as an array of its own."""
    found: NDArray[Any] = column.to_numpy()
    return found if found.flags.owndata and found.flags.writeable else found.copy()


def codes_and_words(column: pa.ChunkedArray, known: tuple[str, ...] = ()) -> tuple[NDArray[np.int16], list[str]]:
    """Return a column of words as codes (-1 for nothing) and the words: those known, then others as they appear."""
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    column = column.unify_dictionaries()
    found = column.chunk(0).dictionary.to_pylist() if column.num_chunks else []
    parts = [np.asarray(chunk.indices.fill_null(-1).to_numpy(zero_copy_only=False)) for chunk in column.chunks]
    codes = _joined(parts, np.int64)
    words = list(known)
    if not set(found) <= set(known):
        present, first = np.unique(codes, return_index=True)
        appearing = (found[code] for code in present[np.argsort(first)] if code >= 0)
        words = list(dict.fromkeys([*known, *appearing]))
    if found == words[: len(found)]:  # as of every log whose vocabularies are closed: they mean the same already
        return codes.astype(np.int16), words
    place = {word: code for code, word in enumerate(words)}
    translated = [place.get(word, -1) for word in found]
    return np.array([*translated, -1], dtype=np.int16)[codes], words  # the last, at -1, is for nothing


def _joined(parts: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    if not parts:
        return np.empty(0, dtype)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _dictionary(parts: list[NDArray[np.int16]], vocabularies: list[list[str]]) -> pa.DictionaryArray:
    words = vocabularies[0]
    if any(vocabulary != words for vocabulary in vocabularies):
        words = list(dict.fromkeys(word for vocabulary in vocabularies for word in vocabulary))
        place = {word: code for code, word in enumerate(words)}
        parts = [
            np.array([*(place[word] for word in vocabulary), -1], dtype=np.int16)[codes]
            for codes, vocabulary in zip(parts, vocabularies, strict=True)
        ]
    codes = _joined(parts, np.int16)
    if len(words) <= np.iinfo(np.int8).max:
        codes = codes.astype(np.int8)
    return pa.DictionaryArray.from_arrays(arrow_array(codes, validity=_bits(codes >= 0)), _texts(words))


def _booleans(values: NDArray[Any]) -> pa.Array:
    return pa.Array.from_buffers(pa.bool_(), len(values), [None, _bits(values)])


def _texts(words: list[str]) -> pa.Array:
    encoded = [word.encode() for word in words]
    ends = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    return pa.Array.from_buffers(pa.string(), len(words), [None, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))])


def _bits(values: NDArray[Any]) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values.astype(np.bool_), bitorder="little"))
