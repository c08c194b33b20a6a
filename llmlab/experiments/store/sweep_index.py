"""Which runs make up a sweep: written when it begins, so that what is there of it can be read at any time.

A store keeps runs by what decides their results, and they may belong to several sweeps; only here stands what a sweep
called them, its swept settings as data frames show them, and what its base was set to. Prompts never stand here. Look
next at `store.py`.
"""

from __future__ import annotations

import hashlib
import json
import time
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from llmlab.experiments.runs import Run
from llmlab.experiments.store.files import checked_line, checked_lines, write_whole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class SweepIndex(NamedTuple):
    """A sweep's parameters, and its runs, all those planned, in order; they have keys and no records.

    `settings` are those of its base by their paths, for reading: the sweep itself is in the user's own file or program.
    """

    parameters: tuple[str, ...]
    runs: tuple[Run, ...]
    settings: Mapping[str, Any] = MappingProxyType({})

    def write(self, directory: Path) -> None:
        """Write it as a file of the directory. The same sweep is the same file, however often it is begun.

        Raises:
            OSError: it cannot be written.
        """
        runs = [[run.key, run.replicate, run.seed, *self._labels(run)] for run in self.runs]
        value = {"parameters": list(self.parameters), "settings": dict(self.settings), "runs": runs}
        name = hashlib.blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
        write_whole(directory / f"{name}.json", checked_line({"begun_ns": time.time_ns(), **value}))

    def _labels(self, run: Run) -> list[bool | int | float | str | None]:
        values = (run.settings[name] for name in self.parameters)
        return [value if isinstance(value, bool | int | float | None) else str(value) for value in values]

    @classmethod
    def last(cls, directory: Path) -> SweepIndex | None:
        """Return the one that was written last, `None` where there is none that is whole.

        Raises:
            OSError: the directory cannot be read.
        """
        found = []
        for path in sorted(directory.glob("*.json")):
            value = dict(checked_lines(path.read_bytes())).get(1)
            index = None if value is None else _index(value)
            if value is not None and index is not None:
                found.append((int(value["begun_ns"]), path.name, index))
        return max(found)[2] if found else None


def _index(value: dict[str, Any]) -> SweepIndex | None:
    try:
        parameters = tuple(map(str, value["parameters"]))
        runs = tuple(
            Run(dict(zip(parameters, labels, strict=True)), int(replicate), int(seed), None, str(key))
            for key, replicate, seed, *labels in value["runs"]
        )
        settings = dict(value.get("settings", {}))  # an older store has none
        int(value["begun_ns"])
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError):
        return None
    return SweepIndex(parameters, runs, settings)
