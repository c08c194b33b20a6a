"""A sweep's progress bar, in the terminal and in a notebook: runs, runs per second, time left, failures so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tqdm.auto import tqdm

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class ProgressBar:
    """Shows how far a sweep has come. It appears after half a second, so that a short one shows nothing.

    Args:
        planned: how many runs there are to be.
        there: how many of them were there at its beginning.
        show: whether to show it.
    """

    def __init__(self, planned: int, there: int = 0, *, show: bool) -> None:
        self._bar = tqdm(total=planned, initial=there, disable=not show, unit=" runs", dynamic_ncols=True, delay=0.5)
        self._failed = self._calls = 0

    def finished(self, planned: int, *, failed: bool) -> None:
        """Count a run that has ended, of so many that there are to be by now."""
        self._bar.total = planned
        self._failed += failed
        self._calls = 0
        self._describe()
        self._bar.update(1)

    def called(self) -> None:
        """Count a real call of the run that is going on: one run may take minutes."""
        self._calls += 1
        self._describe()
        self._bar.update(0)

    def _describe(self) -> None:
        parts = [f"{self._failed} failed"] if self._failed else []
        parts += [f"call {self._calls} of this run"] if self._calls else []
        self._bar.set_postfix_str(", ".join(parts), refresh=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._bar.close()
