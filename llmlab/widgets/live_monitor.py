"""`LiveMonitor`: what a client does, while one's own code runs.

It is an observer that only appends (`tally.py`), and a page (`live_page.py`) that is drawn twice a second on the loop
thread of the sync clients, and only when something has changed. What is shown is set as a trait: nothing is printed.
"""

from __future__ import annotations

import asyncio
import weakref
from typing import TYPE_CHECKING, Any

from llmlab.core.client import AsyncClient
from llmlab.sync import Client, LoopThread
from llmlab.widgets.keeping import told
from llmlab.widgets.live_page import STYLE, body, error_box
from llmlab.widgets.tally import Snapshot, Tally

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Self

REDRAW_EVERY = 0.5
"""Seconds between two drawings."""

_watching: weakref.WeakKeyDictionary[Client | AsyncClient, LiveMonitor] = weakref.WeakKeyDictionary()


class LiveMonitor:
    """Watch a client's attempts, failures, calls in flight and latency while your own code uses it.

        from llmlab.widgets import LiveMonitor

        monitor = LiveMonitor(llm)
        monitor

    Works for any client, sync or async, real or simulated; a simulated one is shown in its own, virtual time. Without a
    front end, `print(monitor)` and `monitor.snapshot()` say the same. A client has one monitor: a new one, as when a
    cell is run again, closes the one before. It ends with the client, and `close` (or the end of a `with` block) takes
    it off: a closed monitor costs nothing, and keeps showing what it had seen.

    Args:
        client: whom to watch. Calls that ended before are not counted.
        window: how many seconds count as recent, on the client's clock; also at most the last 4,096 calls.

    Raises:
        TypeError: `client` is no client of llmlab.
        ValueError: `window` is not above 0.
    """

    def __init__(self, client: Client | AsyncClient, *, window: float = 60.0) -> None:
        if not isinstance(client, Client | AsyncClient):
            raise TypeError(f"LiveMonitor watches a client, such as MockLLM() or LocalLLM(), got a {_kind(client)}")
        if not window > 0:
            raise ValueError(f"window must be above 0 seconds, got {window!r}")
        import ipywidgets as widgets  # noqa: PLC0415 - so that a snapshot in a script needs no front end's parts

        self._client = weakref.ref(client)
        self._name = type(client).__name__
        self._tally = Tally(client.layer, window)
        self._shown: tuple[int, ...] | None = None
        self._closed = False
        self._html, self._error = widgets.HTML(""), widgets.HTML("")
        self._box = widgets.VBox([widgets.HTML(STYLE), self._error, self._html])
        self._box.add_class("llmlab-live-monitor")
        if (before := _watching.get(client)) is not None:
            before.close()
        _watching[client] = self
        client.add_observer(self._tally)
        self._loop = LoopThread.shared().loop
        self._ticking = asyncio.run_coroutine_threadsafe(self._tick(), self._loop)

    @property
    def error(self) -> str:
        """What the page says went wrong, as HTML; empty where nothing did."""
        return str(self._error.value)

    @property
    def page(self) -> str:
        """What the page shows, as HTML."""
        return str(self._html.value)

    def snapshot(self) -> Snapshot:
        """Return what was seen until now, as a value."""
        client = self._client()
        return self._tally.snapshot(0 if client is None else client.state.calls_in_progress)

    def refresh(self) -> None:
        """Draw now instead of within half a second."""
        self._on_loop(self._draw_now())

    def close(self) -> None:
        """Watch no longer. The page keeps what it shows; doing it again does nothing."""
        if self._closed:
            return
        self._closed = True
        client = self._client()
        if client is not None:
            client.remove_observer(self._tally)
            if _watching.get(client) is self:
                del _watching[client]
        self._ticking.cancel()
        self._on_loop(self._draw_now())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LiveMonitor of {self._name}{', closed' if self._closed else ''}>\n{self.snapshot()}"

    def _repr_mimebundle_(self, **_: Any) -> Any:
        bundle = self._box._repr_mimebundle_()
        bundle["text/plain"] = repr(self)
        return bundle

    # ---- on the loop

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        done = asyncio.run_coroutine_threadsafe(work, self._loop)
        if asyncio._get_running_loop() is not self._loop:
            done.result(5.0)

    async def _tick(self) -> None:
        while self._client() is not None:
            self._draw()
            await asyncio.sleep(REDRAW_EVERY)
        self._closed = True
        self._draw()

    async def _draw_now(self) -> None:
        self._shown = None
        self._draw()

    def _draw(self) -> None:
        """Show what has changed. An error of a drawing is shown on the page: nobody would see it on this thread."""
        try:
            client = self._client()
            in_flight = 0 if client is None else client.state.calls_in_progress
            state = (self._tally.events, in_flight, self._closed)
            if self._shown == state:
                return
            self._shown = state
            self._html.value = body(self._tally.snapshot(in_flight), f"{self._name}, live", self._note())
        except Exception as error:  # noqa: BLE001 - shown to the user
            self._error.value = error_box(told(error))

    def _note(self) -> str:
        if self._closed:
            return "Closed: nothing is counted any more."
        return "Watching. Counts are since the monitor was attached; close() takes it off."


def _kind(value: object) -> str:
    return type(value).__name__
