"""Events kept in memory, by column: the observer behind every data frame.

A row's values are appended to a flat list, which every few hundred rows is turned into typed arrays, a column being
every n-th of its values. So recording costs an `extend` in C, and a million attempts cost about 105 MB and no object
each. Words are kept as codes into a list that grows as words appear, in 8 bits until one needs 16, and whole numbers in
32 bits until one needs 64. `analysis/frames.py` makes data frames of the arrays.
"""

from __future__ import annotations

from array import array
from collections import Counter
from struct import error as StructError  # noqa: N812 - by its own name it would be any error
from struct import pack
from typing import TYPE_CHECKING, Any

from llmlab.core.display import card
from llmlab.core.events import ATTEMPT_COLUMNS, CALL_COLUMNS, AttemptEvent, CallEvent, Column

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_TYPECODES = {"float": "d", "int": "i", "bool": "b", "word": "b"}
_WIDER = {"i": "q", "b": "h"}
"""What takes the place of a type from the first number on that it cannot hold."""
_ROWS_PER_FLUSH = 256
_CALL_VALUES_PER_FLUSH = _ROWS_PER_FLUSH * len(CALL_COLUMNS)


class _Codes(dict[Any, int]):
    """Words to codes, in order of appearance; nothing (`None`) is -1."""

    def __init__(self, known: tuple[str, ...]) -> None:
        super().__init__({word: code for code, word in enumerate(known)})
        self[None] = -1

    def __missing__(self, word: str) -> int:
        code = self[word] = len(self) - 1
        return code

    @property
    def words(self) -> list[str]:
        return [word for word in self if word is not None]


class ColumnTable:
    """Rows in, typed columns out.

    Args:
        columns: what the rows hold, in order.
    """

    def __init__(self, columns: tuple[Column, ...]) -> None:
        self.columns = columns
        self._arrays = [array(_TYPECODES[column.kind]) for column in columns]
        self._codes = [_Codes(column.words) if column.kind == "word" else None for column in columns]
        self._width = len(columns)
        self._due = _ROWS_PER_FLUSH * self._width
        self.pending: list[Any] = []
        """The values of the rows that are not yet in the columns, row after row."""
        self.append: Callable[[tuple[Any, ...]], None] = self.pending.extend

    def __len__(self) -> int:
        return len(self._arrays[0]) + len(self.pending) // self._width

    def flush_if_due(self) -> None:
        """Turn the rows into columns when there are enough of them for that to pay."""
        if len(self.pending) >= self._due:
            self.flush()

    def flush(self) -> None:
        """Turn the rows into columns. Packing a column in one piece costs a third of what `array.extend` costs."""
        pending, width = self.pending, self._width
        count = len(pending) // width
        for place in range(width if count else 0):
            values = pending[place::width]
            store, codes = self._arrays[place], self._codes[place]
            if codes is not None:
                first = values[0]
                if values.count(first) == count:  # often, and counting is cheaper than looking up
                    values = [codes[first]] * count
                else:
                    values = list(map(codes.__getitem__, values))
            try:
                packed = pack(f"{count}{store.typecode}", *values)
            except StructError:
                wider = _WIDER.get(store.typecode)
                if wider is None:
                    raise
                self._arrays[place] = store = array(wider, store)
                packed = pack(f"{count}{wider}", *values)
            store.frombytes(packed)
        pending.clear()

    def arrays(self) -> dict[str, array[Any]]:
        """Return each column by name: `d` for floats, `i` or `q` for ints, `b` or `h` for codes of words.

        Booleans are `b`, and the code -1 is no word. The arrays are the table's own and grow with it: copy what must
        not change.
        """
        self.flush()
        return {column.name: store for column, store in zip(self.columns, self._arrays, strict=True)}

    def words(self) -> dict[str, list[str]]:
        """Return, for each column of words, the words that its codes stand for."""
        self.flush()
        named = zip(self.columns, self._codes, strict=True)
        return {column.name: list(map(str, codes.words)) for column, codes in named if codes is not None}

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Iterate over the rows as they were appended."""
        self.flush()
        values: list[Iterable[Any]] = []
        for column, store, codes in zip(self.columns, self._arrays, self._codes, strict=True):
            if codes is not None:
                words = [*codes.words, None]  # the last, at -1, is for nothing
                values.append([words[code] for code in store])
            else:
                values.append(map(bool, store) if column.kind == "bool" else store)
        return zip(*values, strict=True)

    def clear(self) -> None:
        """Forget all rows."""
        self.pending.clear()
        for store in self._arrays:
            del store[:]


class EventLog:
    """Keep every attempt and call in memory. An observer; not for use from several event loops at a time.

    `len(log)` is the number of attempts.
    """

    def __init__(self) -> None:
        self.attempt_table = ColumnTable(ATTEMPT_COLUMNS)
        self.call_table = ColumnTable(CALL_COLUMNS)
        self.on_attempt: Callable[[AttemptEvent], None] = self.attempt_table.append
        self._append_call = self.call_table.append
        self._calls_pending = self.call_table.pending

    def on_call(self, event: CallEvent) -> None:
        """Keep one call."""
        self._append_call(event)
        if len(self._calls_pending) >= _CALL_VALUES_PER_FLUSH:
            self.attempt_table.flush()
            self.call_table.flush()

    def __len__(self) -> int:
        return len(self.attempt_table)

    def __repr__(self) -> str:
        return f"<EventLog: {len(self.call_table)} calls, {len(self.attempt_table)} attempts>"

    def _repr_html_(self) -> str:
        columns, words = self.call_table.arrays(), self.call_table.words()
        fates = Counter(words["fate"][code] for code in columns["fate"])
        rows = [("calls", f"{len(self.call_table):,}"), ("attempts", f"{len(self):,}")]
        return card("EventLog", [*rows, *((f"calls {fate}", f"{count:,}") for fate, count in fates.most_common())])

    @property
    def attempts(self) -> list[AttemptEvent]:
        """All attempts so far, made anew at each access; for many, use data frames."""
        return [AttemptEvent(*row) for row in self.attempt_table.rows()]

    @property
    def calls(self) -> list[CallEvent]:
        """All calls so far, made anew at each access; for many, use data frames."""
        return [CallEvent(*row) for row in self.call_table.rows()]

    def clear(self) -> None:
        """Forget all events."""
        self.attempt_table.clear()
        self.call_table.clear()
