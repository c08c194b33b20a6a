"""What in a store is damaged or not llmlab's: found, named and moved aside, so that its runs are made again.

Every file is compared with the digest that its manifest gives; that reads a gigabyte a second, a hundred times faster
than its runs could be made. Look next at `store.py`.
"""

from __future__ import annotations

import re
import time
import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from llmlab.experiments.store.files import TEMPORARY, digest_of
from llmlab.experiments.store.manifest import FILE, Damage, StoredBatch, StoredFile, read_manifests

if TYPE_CHECKING:
    from pathlib import Path

_OURS = re.compile(rf"{FILE.pattern}({TEMPORARY})?")
_ABANDONED_S = 24 * 3600.0
"""A file that no manifest names is in the making, or its writer was killed: after a day it was."""


class StoreWarning(UserWarning):
    """A store holds something damaged or foreign; the message names it and says what became of it."""


class Inspector:
    """Inspects one store, again and again: a file that was found whole is not read twice."""

    def __init__(self, store: Path) -> None:
        self._store = store
        self._whole: set[tuple[StoredFile, int]] = set()

    def set_aside(self) -> None:
        """Move damaged and foreign files to `aside/`, remove what killed writers left, and warn of the former.

        Warns:
            StoreWarning: there were such files.
        """
        found = list(read_manifests(self._store / "manifests"))
        known = {file.name: file for one in found if isinstance(one, StoredBatch) for file in one.files.values()}
        damages = [one for one in found if isinstance(one, Damage)]
        for path in sorted((self._store / "data").iterdir()):
            damages += self._damages(path, known.get(path.name))
        if not damages:
            return
        aside = self._store / "aside"
        aside.mkdir(exist_ok=True)
        said = []
        for file, what, moved in damages:
            if moved:
                with suppress(FileNotFoundError):  # another process was faster
                    file.replace(_free_name(aside, file.name))
            said.append(f"{file}: {what}{' (moved to aside/)' if moved else ''}")
        warnings.warn("; ".join(said) + ". Their runs will be made again", StoreWarning, stacklevel=4)

    def _damages(self, path: Path, known: StoredFile | None) -> list[Damage]:
        try:
            about = path.stat()
            if known is None:
                return self._unknown(path, about.st_mtime)
            if not path.is_file() or about.st_size != known.size:
                return [Damage(path, f"{about.st_size} bytes long instead of {known.size}")]
            if (known, about.st_mtime_ns) not in self._whole:
                if digest_of(path) != known.digest:
                    return [Damage(path, "its content has changed since it was written")]
                self._whole.add((known, about.st_mtime_ns))
        except FileNotFoundError:  # another process has moved it
            pass
        return []

    def _unknown(self, path: Path, changed_at: float) -> list[Damage]:
        if not _OURS.fullmatch(path.name):
            return [Damage(path, "not a file of llmlab's")]
        if time.time() - changed_at > _ABANDONED_S:
            path.unlink(missing_ok=True)
        return []


def _free_name(directory: Path, name: str) -> Path:
    path, number = directory / name, 1
    while path.exists():
        number += 1
        path = directory / f"{name}.{number}"
    return path
