"""Rows into groups, as arrays: the part of `metrics.py` that has to be fast for a million calls.

A `Groups` numbers the groups of a frame once; every sum, count and sample after that is one pass over an array. NaN is
a group of its own (a setting that was `None`), and only groups that occur are numbered.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from llmlab.analysis.columns import need_columns

if TYPE_CHECKING:
    from numpy.typing import NDArray

By = str | Sequence[str] | None
"""A column, several columns, or `None` for one group that holds every row."""


class Groups:
    """The groups of a frame's rows by the values of some columns, in ascending order of these.

    Raises:
        TypeError: it is no data frame.
        KeyError: the frame lacks one of the columns.
    """

    def __init__(self, frame: pd.DataFrame, by: By) -> None:
        self.by = column_names(by)
        self._codes = _codes(frame, self.by)
        self._length = int(np.max(self._codes, initial=-1)) + 1 if self.by else 1
        self.keys = frame[self.by].iloc[self._first_rows()].reset_index(drop=True) if self.by else _NO_KEYS

    def __len__(self) -> int:
        return self._length

    @property
    def codes(self) -> NDArray[np.int64]:
        """The number of each row's group."""
        return self._codes

    def counts(self) -> NDArray[np.int64]:
        """Return the number of rows in each group."""
        return np.bincount(self._codes, minlength=self._length)

    def sums(self, values: pd.Series[Any]) -> NDArray[Any]:
        """Return the sum in each group: integers for integers and booleans, floats for floats."""
        totals = np.bincount(self._codes, weights=values.to_numpy(dtype=np.float64), minlength=self._length)
        return totals if values.dtype == np.float64 else np.rint(totals).astype(np.int64)

    def counts_of_words(self, words: pd.Series[Any]) -> NDArray[np.int64]:
        """Return how often each category occurs in each group: a row a group, a column a category."""
        codes, width = words.cat.codes.to_numpy().astype(np.int64), len(words.cat.categories)
        present = codes >= 0
        cells = self._codes[present] * width + codes[present]
        return np.bincount(cells, minlength=self._length * width).reshape(self._length, width)

    def values(self, values: pd.Series[Any], where: pd.Series[bool] | None = None) -> list[NDArray[Any]]:
        """Return the values of each group, of all rows or of those where the mask holds."""
        mask = slice(None) if where is None else where.to_numpy()
        codes, kept = self._codes[mask], values.to_numpy()[mask]
        order = np.argsort(codes, kind="stable")
        edges = np.cumsum(np.bincount(codes, minlength=self._length))
        return np.split(kept[order], edges)[: self._length]

    def spans(self, starts: pd.Series[float], ends: pd.Series[float], *, within: Groups) -> NDArray[np.float64]:
        """Return, for each group of `within`, the sum over this grouping's parts of it: last end minus first start."""
        cells = within._codes * self._length + self._codes
        parts, positions = np.unique(cells, return_inverse=True)
        first, last = np.full(len(parts), np.inf), np.full(len(parts), -np.inf)
        np.minimum.at(first, positions, starts.to_numpy())
        np.maximum.at(last, positions, ends.to_numpy())
        durations = np.bincount(parts // max(self._length, 1), weights=last - first, minlength=within._length)
        return np.asarray(durations, dtype=np.float64)  # of no rows at all, bincount makes integers

    def codes_of(self, other: pd.DataFrame) -> NDArray[np.int64]:
        """Return the number of the group that each row of another frame belongs to, -1 where it has none here."""
        theirs = Groups(other, self.by)
        if not self.by:
            return theirs._codes
        mine = self.keys.assign(**{_GROUP: np.arange(self._length)})
        matched = theirs.keys.merge(mine, on=self.by, how="left")[_GROUP].fillna(-1).to_numpy(dtype=np.int64)
        return matched[theirs._codes]

    def frame(self, columns: dict[str, Any], *, repeat: int = 1) -> pd.DataFrame:
        """Return a tidy frame: the groups' columns, each row repeated so often, and beside them the columns given."""
        clashes = [name for name in self.by if name in columns]
        if clashes:
            raise ValueError(f"cannot group by {clashes}: the result has columns of the same names")
        keys = self.keys.loc[np.repeat(np.arange(self._length), repeat)].reset_index(drop=True)
        return pd.concat([keys, pd.DataFrame(columns, index=keys.index)], axis="columns")

    def _first_rows(self) -> NDArray[np.int64]:
        rows = np.empty(self._length, dtype=np.int64)
        rows[self._codes[::-1]] = np.arange(len(self._codes))[::-1]  # the last to be written is the first of its group
        return rows


_GROUP = "__group__"
_DENSE = 2**16  # so many counters cost nothing
_NO_KEYS = pd.DataFrame(index=pd.RangeIndex(1))


def column_names(by: By) -> list[str]:
    """Return the columns that are meant, each once."""
    if by is None:
        return []
    return [by] if isinstance(by, str) else list(dict.fromkeys(by))


def _codes(frame: pd.DataFrame, names: list[str]) -> NDArray[np.int64]:
    need_columns(frame, names)
    codes, count = np.zeros(len(frame), dtype=np.int64), 1
    for name in names:
        # As `groupby(...).ngroup()` numbers them, in a third of its time: NaN comes last, words in their own order.
        numbers, values = pd.factorize(frame[name], sort=True, use_na_sentinel=False)
        if count == 1:
            codes, count = numbers.astype(np.int64), len(values)
        elif len(values) > 1:  # a column of one value, such as a replicate often is, tells nothing apart
            codes, count = _occurring(codes * len(values) + numbers, count * len(values))
    return codes


def _occurring(codes: NDArray[np.int64], bound: int) -> tuple[NDArray[np.int64], int]:
    """Renumber codes below a bound so that each of them occurs, in the same order; return also how many there are."""
    if bound > _DENSE + 2 * len(codes):
        found, places = np.unique(codes, return_inverse=True)
        return places.reshape(-1), len(found)
    occurs = np.bincount(codes, minlength=bound) > 0
    if occurs.all():
        return codes, bound
    return (np.cumsum(occurs) - 1)[codes], int(occurs.sum())
