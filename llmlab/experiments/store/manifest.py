"""Which runs are in which files: a line for every batch that is wholly on the disk.

Each writing process appends to a manifest of its own, so that several on one store, also a shared one, never meet in
a file. A batch without its line does not exist, whatever files there are. Look next at `store.py`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.experiments.store.files import checked_lines
from llmlab.experiments.store.run_batch import KEPT, Keep

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FORMAT_VERSION = 1
"""Of what a store holds: the columns, what they mean, and how they are filed."""

SUFFIX = ".jsonl"
WRITER = re.compile(r"[0-9a-f]{16}")
FILE = re.compile(rf"(attempts|calls|server|totals|sketches)-{WRITER.pattern}-\d+\.parquet")


class StoredFile(NamedTuple):
    """A file of a batch: its name, size in bytes, and digest."""

    name: str
    size: int
    digest: str


class StoredBatch(NamedTuple):
    """A batch that is on the disk. Its i-th run has the number `base + i` in the column `run` of its files."""

    base: int
    keep: Keep
    keys: tuple[str, ...]
    wall_s: tuple[float, ...]
    files: dict[str, StoredFile]
    """By table; a table without rows has none."""

    def line(self) -> dict[str, Any]:
        """Return it as the value of a manifest's line."""
        return {**self._asdict(), "files": {table: list(file) for table, file in self.files.items()}}


class Damage(NamedTuple):
    """Something in a store that is not what it should be: the file, and what is wrong with it."""

    file: Path
    what: str
    moved: bool = True
    """Whether it is to be moved aside; a manifest with a damaged line is not, for the others are good."""


def read_manifests(directory: Path) -> Iterator[StoredBatch | Damage]:
    """Yield every batch of all manifests, always in the same order, and what is damaged."""
    for path in sorted(directory.iterdir()):
        if path.suffix != SUFFIX or not WRITER.fullmatch(path.stem) or not path.is_file():
            yield Damage(path, "not a manifest of llmlab's")
            continue
        for number, value in checked_lines(path.read_bytes()):
            batch = None if value is None else _batch(value)
            yield Damage(path, f"line {number} is damaged", moved=False) if batch is None else batch


def _batch(value: dict[str, Any]) -> StoredBatch | None:
    """Return the batch that a line tells of, `None` where it is not one: a store may come from anywhere."""
    try:
        told = value.pop("files").items()
        files = {table: StoredFile(str(name), int(size), str(digest)) for table, (name, size, digest) in told}
        batch = StoredBatch(**value, files=files)
        keys = tuple(map(str, batch.keys))
        if not set(files) <= set(KEPT[batch.keep]) or len(batch.wall_s) != len(keys):
            return None
        if not all(FILE.fullmatch(file.name) for file in files.values()):  # no way out of the directory
            return None
        return batch._replace(base=int(batch.base), keys=keys, wall_s=tuple(map(float, batch.wall_s)))
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
