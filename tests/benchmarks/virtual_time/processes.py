"""Variants in processes of their own, asked in turns, so that a slow minute of the machine meets them all."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import NamedTuple, Self

from tests.benchmarks.virtual_time.variants import VARIANTS


class Measured(NamedTuple):
    """One run: CPU seconds of its process, attempts made, calls without an answer, calls made."""

    cpu_s: float
    attempts: int
    failed_calls: int
    calls: int

    @property
    def us_per_attempt(self) -> float:
        return self.cpu_s / self.attempts * 1e6


def installed(name: str) -> bool:
    """Whether what a variant needs is here."""
    needs = VARIANTS[name].needs
    return not needs or importlib.util.find_spec(needs) is not None


class Process:
    """A variant, waiting in a process to be run."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "tests.benchmarks.virtual_time.variants", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, calls: int, users: int) -> Measured:
        """Run it once."""
        calls = max(1, round(calls * VARIANTS[self.name].share))
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None
        assert stdout is not None
        stdin.write(f"{calls} {users}\n")
        stdin.flush()
        line = stdout.readline()
        if not line:
            raise RuntimeError(f"the process of variant '{self.name}' ended early, with code {self._process.wait()}")
        return Measured(calls=calls, **json.loads(line))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


def best_of(name: str, calls: int, users: int, rounds: int) -> Measured:
    """Run a variant several times in one process and return the fastest run."""
    with Process(name) as process:
        return min((process.run(calls, users) for _ in range(rounds)), key=lambda one: one.cpu_s)
