"""The synchronous face of the one client: plain calls, for scripts, threads and notebook cells.

There is no second implementation. A call on a real backend runs on one daemon thread with one event loop per process,
so a sync call has a true deadline, limits hold across threads, Ctrl-C closes its connection, and nothing is patched in
Jupyter (40 to 130 microseconds a call). A call on a simulated backend runs on the client's own virtual loop: it
returns at once, and its latency is virtual. Calls of one simulated client follow one another on its clock; for
simulated concurrency use `generate_many`, an `Experiment`, or `AsyncClient` under `llmlab.virtual_time.run`.
"""

from __future__ import annotations

import asyncio
import os
import threading
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from llmlab.core.client import AsyncClient, client_html
from llmlab.core.display import laid_out
from llmlab.core.text_stream import LLMStream
from llmlab.virtual_time import VirtualLoop
from llmlab.virtual_time.interrupts import interrupts_cancel_main
from llmlab.virtual_time.threads import in_a_thread, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from types import TracebackType
    from typing import Self

    from llmlab.core.backend import Backend
    from llmlab.core.events import Observer
    from llmlab.core.messages import LLMFailure, LLMRequest, LLMResponse
    from llmlab.core.policy import ClientPolicy
    from llmlab.core.state import ClientState

T = TypeVar("T")
_CLEANUP_S = 5.0


class _Runner(Protocol):
    """Something that runs a coroutine to its end while the calling thread waits."""

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T: ...

    def close(self) -> None: ...


class LoopThread:
    """One daemon thread with one event loop, shared by all sync clients of the process."""

    _shared: LoopThread | None = None
    _lock = threading.Lock()

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._pid = os.getpid()
        threading.Thread(target=self._serve, name="llmlab-loop", daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                self.loop.run_forever()
            except (KeyboardInterrupt, SystemExit):
                continue  # a task raised it and holds it as its result: it is for who waits for that task

    @classmethod
    def shared(cls) -> LoopThread:
        """Return the process's loop thread, started on first use (and anew after a fork)."""
        with cls._lock:
            if cls._shared is None or cls._shared._pid != os.getpid():
                cls._shared = cls()
            return cls._shared

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `main()` there and wait. Any exception here, Ctrl-C above all, cancels it and awaits its cleanup."""
        _refuse_nesting(self.loop)
        begun: list[asyncio.Task[T]] = []
        ended = threading.Event()

        def begin() -> None:
            task = self.loop.create_task(main())
            begun.append(task)
            task.add_done_callback(lambda _: ended.set())

        def cancel() -> None:
            if begun:
                begun[0].cancel()
            else:  # interrupted before `begin` was handed over
                ended.set()

        try:
            self.loop.call_soon_threadsafe(begin)
            wait_for(ended)
        except BaseException:
            self.loop.call_soon_threadsafe(cancel)
            ended.wait(_CLEANUP_S)
            raise
        return begun[0].result()

    def close(self) -> None:
        """Nothing: the thread serves other clients too and ends with the process."""


class VirtualRunner:
    """A virtual loop of one's own, driven by whichever thread calls, one at a time."""

    def __init__(self) -> None:
        self._loop = VirtualLoop()
        self._runner = asyncio.Runner(loop_factory=lambda: self._loop)
        self._lock = threading.Lock()

    def run(self, main: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `main()` in virtual time; inside a running loop (Jupyter) in a short-lived thread."""
        _refuse_nesting(self._loop)
        with self._lock:
            if self._loop.is_closed():
                raise RuntimeError("this client is closed, and its simulated time has ended with it; make a new one")
            if asyncio._get_running_loop() is None:
                with interrupts_cancel_main(self._loop):
                    return self._runner.run(main(), context=copy_context())
            return in_a_thread(
                lambda: self._runner.run(main(), context=copy_context()), self._loop.cancel_main_from_another_thread
            )

    @property
    def closed(self) -> bool:
        """Whether it can run nothing more."""
        return self._loop.is_closed()

    def close(self) -> None:
        """Close the loop."""
        with self._lock:
            if asyncio._get_running_loop() is None:
                self._runner.close()
            else:
                in_a_thread(self._runner.close, lambda: None)


def _refuse_nesting(loop: asyncio.AbstractEventLoop) -> None:
    if asyncio._get_running_loop() is loop:
        raise RuntimeError(
            "a sync client was called from inside its own event loop (an observer, a backend?), where it would wait "
            "for itself; use the async client there and await it"
        )


class Client:
    """Calls a backend by a policy, and waits for the result.

    Takes what `AsyncClient` takes, and behaves the same. Safe to use from several threads, and in a notebook cell.

    Args:
        backend: what attempts are sent to.
        policy: how to behave; `None` means `ClientPolicy()`.
        observers: what receives the events; called on the thread that runs the call's event loop.
        seed: fixes the client's own chance (jitter); `None` takes one from the operating system.
        state: limits shared with other clients on the same event loop.
        layer: the client's name in events.
        real_time: let a simulated backend take real time, for example to see threads compete; others always do.
    """

    def __init__(
        self,
        backend: Backend,
        policy: ClientPolicy | None = None,
        *,
        observers: Iterable[Observer] = (),
        seed: int | None = None,
        state: ClientState | None = None,
        layer: str = "client",
        real_time: bool = False,
    ) -> None:
        self._client = AsyncClient(backend, policy, observers=observers, seed=seed, state=state, layer=layer)
        self._virtual = self._client.simulated and not real_time
        self._own_runner: VirtualRunner | None = VirtualRunner() if self._virtual else None

    @property
    def backend(self) -> Backend:
        """What attempts are sent to."""
        return self._client.backend

    @property
    def policy(self) -> ClientPolicy:
        """How this client behaves."""
        return self._client.policy

    @property
    def state(self) -> ClientState:
        """The limits, for sharing with another client."""
        return self._client.state

    @property
    def layer(self) -> str:
        """The client's name in events."""
        return self._client.layer

    def add_observer(self, observer: Observer) -> None:
        """Hand events to this observer too, from now on; see `AsyncClient.add_observer`."""
        self._client.add_observer(observer)

    def remove_observer(self, observer: Observer) -> None:
        """Hand no more events to this observer; see `AsyncClient.remove_observer`."""
        self._client.remove_observer(observer)

    def _runner(self) -> _Runner:
        return self._own_runner if self._own_runner is not None else LoopThread.shared()

    def generate(self, request: LLMRequest | str) -> LLMResponse | LLMFailure:
        """Ask once, with all the policy's patience, and return an answer or a failure.

        Args:
            request: what to ask, or just the prompt.

        Raises:
            TypeError: `request` is neither an `LLMRequest` nor a `str`.
            KeyboardInterrupt: Ctrl-C; the attempt's connection is closed, and it is recorded as cancelled.
        """
        return self._runner().run(lambda: self._client.generate(request))

    def stream(self, request: LLMRequest | str) -> LLMStream:
        """Ask once, and read the text as it is written; then the stream has the `result`. See `AsyncClient.stream`.

            with llm.stream("Tell me a story") as stream:
                for piece in stream:
                    print(piece, end="")
            print(stream.result.ok)

        Args:
            request: what to ask, or just the prompt.

        Raises:
            TypeError: `request` is neither an `LLMRequest` nor a `str`.
        """
        return LLMStream(self._client.stream(request), self._runner().run)

    def generate_many(
        self, requests: Iterable[LLMRequest | str], *, concurrency: int | None = None
    ) -> list[LLMResponse | LLMFailure]:
        """Ask many at once and return the results in the order of the requests; see `AsyncClient.generate_many`."""
        batch = self._client.generate_many(requests, concurrency=concurrency)

        async def all_of_it() -> list[LLMResponse | LLMFailure]:
            return await batch

        return self._runner().run(all_of_it)

    def close(self) -> None:
        """Close the backend's connections. A client of a simulated backend ends here; others may be used again."""
        if self._own_runner is not None and self._own_runner.closed:
            return
        self._runner().run(self._client.aclose)
        if self._own_runner is not None:
            self._own_runner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return laid_out(type(self).__name__, [(None, self.backend), (None, self.policy)])

    def _repr_html_(self) -> str:
        return client_html(self)
