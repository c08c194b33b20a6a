"""A directory of finished runs, found by what decides their results.

    DIRECTORY/store.json      says that this is one, and of which format
             /manifests/      one file a writer: which runs are in which files
             /sweeps/         which runs make up a sweep, what it called them, and its settings
             /data/           Parquet files, many runs to a file
             /aside/          what was damaged or not llmlab's

Every process may write at any time, and be killed at any time. Look next at `writer.py` and `stored_runs.py`.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from llmlab.core.settings import SettingsError
from llmlab.experiments.store.files import checked_line, checked_lines, sync_directory, write_whole
from llmlab.experiments.store.inspection import Inspector
from llmlab.experiments.store.manifest import FORMAT_VERSION, StoredBatch, read_manifests
from llmlab.experiments.store.run_batch import KEPT, Keep, checked_keep
from llmlab.experiments.store.sweep_index import SweepIndex
from llmlab.experiments.store.writer import RUN_BITS, Writer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from llmlab.experiments.runs import Run
    from llmlab.experiments.store.run_batch import RunBatch
    from llmlab.experiments.store.stored_runs import StoredRuns

_MARKER = "store.json"
_WHAT = "a store of llmlab's"
_FOLDERS = ("manifests", "data", "sweeps")


class Store:
    """A directory that keeps finished runs. It is made where there is none.

    Several processes may use it at once. It pickles as its path.

    Raises:
        SettingsError: it is no path, or that of something else, or of a store of another version's.
        OSError: it cannot be made or read.
    """

    def __init__(self, path: str | os.PathLike[str], *, create: bool = True) -> None:
        if not isinstance(path, str | os.PathLike):
            raise SettingsError(f"a store is a directory, given by its path or as a Store; got a {type(path).__name__}")
        self.path = Path(path)
        self._lock = threading.Lock()
        self._writer: Writer | None = None
        self._inspector = Inspector(self.path)
        _open(self.path, create=create)

    def __reduce__(self) -> tuple[type[Store], tuple[Path]]:
        return Store, (self.path.absolute(),)  # a worker may be in another directory

    def __repr__(self) -> str:
        return f"<Store: {str(self.path)!r}>"

    def write(self, batch: RunBatch) -> None:
        """Write finished runs; when this returns, they are on the disk. Safe from any thread and process.

        Raises:
            OSError: they could not be written. What was written before stays.
            SettingsError: there are too many runs for one batch.
        """
        if len(batch.keys) > 2**RUN_BITS:
            raise SettingsError(f"a batch holds {2**RUN_BITS} runs at most, got {len(batch.keys)}")
        try:
            with self._lock:
                if self._writer is None or self._writer.process != os.getpid():  # after a fork it is the parent's
                    self._writer = Writer(self.path)
                self._writer.write(batch)
        except OSError as error:
            raise type(error)(
                error.errno,
                f"{error.strerror}: {len(batch.keys)} runs could not be stored; what was stored before is safe: mend "
                "this and run the same sweep again",
                str(self.path),
            ) from error

    def finished(self, keep: Keep = "events") -> set[str]:
        """Return the keys of the runs that are there with at least what is to be kept.

        Every file is compared with its digest first. What is damaged or foreign is moved to `aside/` and its runs count
        as not finished.

        Raises:
            OSError: the directory cannot be read.

        Warns:
            StoreWarning: something was damaged or foreign; the message names it.
        """
        order = list(KEPT)
        enough = order[: order.index(checked_keep(keep)) + 1]
        self._inspector.set_aside()
        return {key for batch in self._batches() if batch.keep in enough for key in batch.keys}

    def read(self) -> StoredRuns:
        """Return what is there now, to be read from. Nothing is compared with its digest.

        Raises:
            OSError: the directory cannot be read.
        """
        from llmlab.experiments.store.stored_runs import StoredRuns  # noqa: PLC0415 - a second of pandas, to write without

        return StoredRuns(self.path / "data", self._batches())

    def begin(
        self, parameters: Sequence[str], runs: Sequence[Run], settings: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        """Note down which runs make up a sweep, all those planned, so that `SweepResult.load` finds them.

        Args:
            parameters: the swept settings' paths.
            runs: in order, with their keys.
            settings: those of the base by their paths, as plain data without prompts; see `settings_by_path`.

        Raises:
            OSError: it cannot be written.
        """
        SweepIndex(tuple(parameters), tuple(runs), settings).write(self.path / "sweeps")

    def last_index(self) -> SweepIndex:
        """Return the runs of the sweep that was begun last.

        Raises:
            SettingsError: none was begun here.
            OSError: the directory cannot be read.
        """
        index = SweepIndex.last(self.path / "sweeps")
        if index is None:
            raise SettingsError(f"no sweep was begun in the store '{self.path}'; run one with store='{self.path}'")
        return index

    def _batches(self) -> list[StoredBatch]:
        """Return the batches whose files are all there in their full size, those that keep most first."""
        with os.scandir(self.path / "data") as entries:
            sizes = {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
        found = [one for one in read_manifests(self.path / "manifests") if isinstance(one, StoredBatch)]
        whole = [batch for batch in found if all(sizes.get(file.name) == file.size for file in batch.files.values())]
        return sorted(whole, key=lambda batch: list(KEPT).index(batch.keep))


def _open(path: Path, *, create: bool) -> None:
    marker = path / _MARKER
    if not marker.exists():
        if not create:
            raise SettingsError(
                f"there is no store at '{path}'; give the directory that a sweep has stored its runs in"
            )
        if path.exists() and not (path.is_dir() and all(map(_is_own, path.iterdir()))):
            raise SettingsError(f"'{path}' is there and is not a store; give a directory that is new or empty")
        for folder in _FOLDERS:
            (path / folder).mkdir(parents=True, exist_ok=True)
        write_whole(marker, checked_line({"what": _WHAT, "format": FORMAT_VERSION}))
        sync_directory(path.parent)
    _check(marker)


def _is_own(path: Path) -> bool:
    """Whether it may be what another process is making just now, or did not live to finish."""
    return path.name in _FOLDERS or path.name.startswith(_MARKER)


def _check(marker: Path) -> None:
    found = dict(checked_lines(marker.read_bytes())).get(1) or {}
    if found.get("what") != _WHAT:
        raise SettingsError(f"'{marker}' is not that of a store; give a directory that is new or empty")
    if found.get("format") != FORMAT_VERSION:
        raise SettingsError(
            f"'{marker.parent}' is a store of format {found.get('format')}, and this version of llmlab has format "
            f"{FORMAT_VERSION}; give another directory, or use the version that made it"
        )
