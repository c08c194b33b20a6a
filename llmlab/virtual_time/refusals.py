"""What has no meaning in virtual time, and what to do instead.

A simulated clock jumps over the very waiting in which a socket, a subprocess or a thread would answer, so a loop on
virtual time refuses them. A refusal is *sticky*: it stops the loop and is raised again at the end of the run, because
the code that meets it is often retry code that swallows every `Exception` and would simulate nonsense.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from llmlab.virtual_time.errors import NotInVirtualTime

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
Executor = Literal["forbid", "inline"]

_NETWORK = "answer in process instead: a mock backend, or a client transport that makes no connection"
_WATCHING = "feed an asyncio.Queue or asyncio.Event from a task on this loop instead"
_PROCESS = "run the subprocess before or after the simulation, or stand in for it with a coroutine that sleeps"
_SIGNAL = "install the handler with signal.signal() around the run instead"
_EXECUTOR = (
    'pass executor="inline" to run the function at once on the loop\'s own thread, where it takes no virtual time, '
    "or move the work out of the simulation"
)
ANOTHER_THREAD = (
    "wake the loop from a task or a timer on it; another thread's timing is real time, and cannot be simulated"
)


def checked_executor(executor: Executor) -> Executor:
    """The executor option, if it is one."""
    if executor not in ("forbid", "inline"):
        raise ValueError(f'executor must be "forbid" or "inline", got {executor!r}')
    return executor


def _refused(name: str, instead: str) -> Any:
    """A method that refuses; `Any`, because it stands in for methods of every signature."""

    def method(self: NoOutsideWorld, *_args: object, **_options: object) -> NoReturn:
        self.refuse(f"loop.{name}()", instead)

    method.__name__ = name
    method.__qualname__ = f"NoOutsideWorld.{name}"
    method.__doc__ = f"Refused in virtual time: {instead}."
    return method


class NoOutsideWorld(asyncio.AbstractEventLoop):
    """The part of a loop that refuses. `VirtualLoop` builds on it, and makes the refusals sticky."""

    def refuse(self, call: str, instead: str) -> NoReturn:
        """Raise `NotInVirtualTime` for `call`, naming what to do instead."""
        raise NotInVirtualTime(f"{call} has no meaning in virtual time: {instead}.")

    getaddrinfo = _refused("getaddrinfo", _NETWORK)
    getnameinfo = _refused("getnameinfo", _NETWORK)
    create_connection = _refused("create_connection", _NETWORK)
    create_server = _refused("create_server", _NETWORK)
    start_tls = _refused("start_tls", _NETWORK)
    connect_accepted_socket = _refused("connect_accepted_socket", _NETWORK)
    create_unix_connection = _refused("create_unix_connection", _NETWORK)
    create_unix_server = _refused("create_unix_server", _NETWORK)
    create_datagram_endpoint = _refused("create_datagram_endpoint", _NETWORK)
    sendfile = _refused("sendfile", _NETWORK)
    sock_sendfile = _refused("sock_sendfile", _NETWORK)
    sock_accept = _refused("sock_accept", _NETWORK)
    sock_connect = _refused("sock_connect", _NETWORK)
    sock_recv = _refused("sock_recv", _NETWORK)
    sock_recv_into = _refused("sock_recv_into", _NETWORK)
    sock_recvfrom = _refused("sock_recvfrom", _NETWORK)
    sock_recvfrom_into = _refused("sock_recvfrom_into", _NETWORK)
    sock_sendall = _refused("sock_sendall", _NETWORK)
    sock_sendto = _refused("sock_sendto", _NETWORK)

    add_reader = _refused("add_reader", _WATCHING)
    remove_reader = _refused("remove_reader", _WATCHING)
    add_writer = _refused("add_writer", _WATCHING)
    remove_writer = _refused("remove_writer", _WATCHING)
    connect_read_pipe = _refused("connect_read_pipe", _WATCHING)
    connect_write_pipe = _refused("connect_write_pipe", _WATCHING)

    subprocess_shell = _refused("subprocess_shell", _PROCESS)
    subprocess_exec = _refused("subprocess_exec", _PROCESS)

    add_signal_handler = _refused("add_signal_handler", _SIGNAL)
    remove_signal_handler = _refused("remove_signal_handler", _SIGNAL)

    _executor: Executor = "forbid"

    def run_in_executor(self, executor: Any, func: Callable[..., T], *args: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Call `func(*args)` at once if the loop has `executor="inline"`, in no virtual time; refused otherwise.

        A function that waits for the loop, as with `asyncio.run_coroutine_threadsafe(...).result()`, would wait for
        ever: it runs on the loop's own thread.
        """
        if self.is_closed():
            raise RuntimeError("Event loop is closed")
        if self._executor == "forbid":
            self.refuse("loop.run_in_executor(), which asyncio.to_thread() uses,", _EXECUTOR)
        future: asyncio.Future[T] = self.create_future()
        running = events._get_running_loop()
        events._set_running_loop(None)  # `func` believes to be in a thread of its own, where no loop runs
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - an executor hands on whatever the function raised
            future.set_exception(error)
        finally:
            events._set_running_loop(running)
        return future

    def set_default_executor(self, executor: object) -> None:
        """Accepted, and of no effect, if the loop has `executor="inline"`; refused otherwise."""
        if self._executor == "forbid":
            self.refuse("loop.set_default_executor()", _EXECUTOR)

    async def shutdown_default_executor(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncio's
        """Nothing to shut down: there is no executor."""
