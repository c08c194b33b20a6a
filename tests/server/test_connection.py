"""A server's connection on real sockets: requests are read as they came, and answers go out as told, breaks too."""

import asyncio
import socket
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from llmlab.server.connection import LARGEST_BODY
from llmlab.server.hosting import HostedServer
from llmlab.server.served import Served
from llmlab.wire.exchange import Break, Head, HTTPRequest, Step

CHUNKED = Head(200, (("Content-Type", "application/x-ndjson"),))
NEVER = "never"


class ScriptedServer(HostedServer):
    """Answers each path with the steps that are told for it, and echoes the body on every other."""

    def __init__(self, **answers: tuple[Step | str, ...]) -> None:
        super().__init__("127.0.0.1", 0)
        self.answers = answers
        self.asked: list[HTTPRequest] = []
        self.served: list[Served] = []
        self.released = threading.Event()

    async def answer(self, served: Served) -> AsyncGenerator[Step]:
        steps = self.answers.get(served.request.path[1:])
        with self._changed:
            self.asked.append(served.request)
            self._changed.notify_all()
        try:
            for step in steps or echo(served.request):
                if step == NEVER:
                    await asyncio.Event().wait()
                elif step == "bug":
                    raise ValueError("a bug")
                else:
                    yield step
        finally:
            self.released.set()

    def ended(self, served: Served) -> None:
        with self._changed:
            self.served.append(served)
            self._changed.notify_all()

    def wait_for(self, number: int) -> list[Served]:
        assert self._wait_for(lambda: len(self.served) >= number, 5)
        return self.served

    def wait_until_asked(self, number: int = 1) -> None:
        assert self._wait_for(lambda: len(self.asked) >= number, 5)


def echo(request: HTTPRequest) -> tuple[Step, ...]:
    body = request.body or b"nothing"
    return Head(200, (("Content-Type", "text/plain"), ("Content-Length", str(len(body))))), body


def get(path: str = "/", *headers: str) -> bytes:
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


LAST = "Connection: close"


@contextmanager
def connected(server: HostedServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        yield connection


def talk(server: HostedServer, sent: bytes) -> bytes:
    """Send bytes and return all that comes back until the server closes."""
    with connected(server) as connection:
        connection.sendall(sent)
        return rest_of(connection)


def rest_of(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_each_piece_of_a_body_without_a_length_is_one_http_chunk():
    with ScriptedServer(stream=(CHUNKED, b"one\n", b"two\n")) as server:
        head, _, body = talk(server, get("/stream", LAST)).partition(b"\r\n\r\n")
    assert head.splitlines()[:2] == [b"HTTP/1.1 200 OK", b"Content-Type: application/x-ndjson"]
    assert body == b"4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n"


def test_requests_sent_ahead_are_answered_in_order_over_one_connection():
    with ScriptedServer(stream=(CHUNKED, b"one\n")) as server:
        received = talk(server, get("/a") + get("/stream") + get("/b", LAST))
        assert server.connections == 1
    assert received.count(b"HTTP/1.1 200 OK") == 3
    assert [served.request.path for served in server.served] == ["/a", "/stream", "/b"]
    assert [served.reused for served in server.served] == [False, True, True]


def test_a_client_that_keeps_its_connection_uses_it_again():
    with ScriptedServer() as server, httpx.Client(trust_env=False) as client:
        answers = [client.post(server.url, content=f"{n}").text for n in range(5)]
        assert server.connections == 1
    assert answers == ["0", "1", "2", "3", "4"]


def test_a_body_in_chunks_and_one_that_waits_to_be_wanted_arrive_whole():
    head = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    with ScriptedServer() as server, connected(server) as connection:
        connection.sendall(head)
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        assert connection.recv(1000).endswith(b"abcde")


def test_a_request_that_comes_byte_by_byte_is_one_request():
    with ScriptedServer() as server, connected(server) as connection:
        for byte in b"POST /x?key=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi":
            connection.sendall(bytes([byte]))
        assert connection.recv(1000).endswith(b"hi")
        (served,) = server.wait_for(1)
    assert (served.request.path, served.request.query, served.request.header("host")) == ("/x", "key=1", "x")


def test_a_request_without_a_body_in_an_old_version_is_answered_and_closed():
    with ScriptedServer(stream=(CHUNKED, b"one\n")) as server:
        assert talk(server, b"GET /stream HTTP/1.0\r\n\r\n").endswith(b"\r\n\r\none\n")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (get("/", f"Long: {'x' * 100_000}"), 431),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1), 413),
    ],
)
def test_what_is_no_request_that_is_taken_gets_a_status_and_its_connection_ends(sent, status):
    with ScriptedServer() as server:
        received = talk(server, sent)
        assert server.wait_until_closed()
    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert server.asked == []


def test_who_sends_a_body_that_is_too_long_can_still_read_why():
    with ScriptedServer() as server, connected(server) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (LARGEST_BODY + 1))
        connection.sendall(b"x" * 1_000_000)
        assert rest_of(connection).startswith(b"HTTP/1.1 413 ")


def test_requests_ahead_without_end_are_not_kept_in_memory():
    with ScriptedServer(never=(NEVER,)) as server, connected(server) as connection:
        connection.sendall(get("/never"))
        server.wait_until_asked()
        with pytest.raises(ConnectionError):  # closed with unread data: a reset
            connection.sendall(get("/more") * 1_000_000)
        assert server.wait_until_closed()


@pytest.mark.parametrize("broken", [Break.REFUSED, Break.RESET])
@pytest.mark.parametrize("before", [(), (CHUNKED, b"one\n")], ids=["at once", "in the body"])
def test_a_reset_is_one_on_the_wire(broken, before):
    with ScriptedServer(broken=(*before, broken)) as server, connected(server) as connection:
        connection.sendall(get("/broken"))
        with pytest.raises(ConnectionResetError):
            rest_of(connection)
        (served,) = server.wait_for(1)
    assert served.end == broken
    assert served.status == (200 if before else None)


def test_a_cut_closes_properly_in_the_middle_of_the_body():
    with ScriptedServer(cut=(CHUNKED, b"one\n", Break.CUT)) as server:
        received = talk(server, get("/cut"))
        with (
            httpx.Client(trust_env=False) as client,
            pytest.raises(httpx.RemoteProtocolError, match="incomplete chunked"),
        ):
            client.get(f"{server.url}/cut")
    assert received.endswith(b"\r\n\r\n4\r\none\n\r\n")


def test_a_length_that_is_not_kept_shows_as_a_cut():
    with ScriptedServer(short=(Head(200, (("Content-Length", "10"),)), b"half", Break.CUT)) as server:
        assert talk(server, get("/short")).endswith(b"\r\n\r\nhalf")


def test_no_connection_is_one_that_never_says_anything():
    with ScriptedServer(silent=(Break.NO_CONNECTION,)) as server, connected(server) as connection:
        connection.sendall(get("/silent"))
        server.wait_until_asked()
        connection.setblocking(False)
        with pytest.raises(BlockingIOError):
            connection.recv(1)
        assert server.open_connections == 1


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("steps", [(NEVER,), (CHUNKED, b"one\n", NEVER)], ids=["before the head", "in the body"])
def test_an_answer_is_given_up_at_once_when_its_client_goes(how, steps):
    with ScriptedServer(never=steps) as server:
        with connected(server) as connection:
            connection.sendall(get("/never"))
            server.wait_until_asked()
            if how == "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        assert server.released.wait(5)
        assert server.wait_until_closed()
        (served,) = server.wait_for(1)
    assert served.end == "client_gone"


def test_a_bug_in_an_answer_ends_its_connection_and_no_other(caplog):
    with ScriptedServer(bug=("bug",)) as server:
        with pytest.raises(ConnectionResetError):
            talk(server, get("/bug"))
        assert talk(server, get("/", LAST)).endswith(b"nothing")
    assert [served.end for served in server.served] == ["crashed", "complete"]
    assert "the answer to GET /bug could not be made" in caplog.text


def test_a_slow_reader_holds_up_the_answer_and_not_the_memory():
    pieces = (b"x" * 1_000_000,) * 40
    with ScriptedServer(much=(CHUNKED, *pieces)) as server, connected(server) as connection:
        connection.sendall(get("/much", LAST))
        server.wait_until_asked()
        assert connection.recv(1) == b"H"
        assert not server.served  # far more than the sockets hold is still to be made
        assert len(rest_of(connection)) > 40_000_000
        (served,) = server.wait_for(1)
    assert served.end == "complete"


def test_a_server_that_stops_ends_what_is_open():
    server = ScriptedServer(never=(NEVER,))
    with server:
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        waiting.sendall(get("/never"))
        server.wait_until_asked()
    with waiting, suppress(ConnectionResetError):
        assert waiting.recv(1) == b""
    assert [served.end for served in server.served] == ["server_stopped"]
    assert server.open_connections == 0
    server.stop()


def test_the_same_server_can_be_started_again_on_its_port():
    server = ScriptedServer()
    for _ in range(2):
        with server:
            assert talk(server, get("/", LAST)).endswith(b"nothing")
    with pytest.raises(ConnectionRefusedError):
        talk(server, get())


def test_async_with_starts_and_stops_it_too():
    async def ask() -> str:
        async with ScriptedServer() as server, httpx.AsyncClient(trust_env=False) as client:
            return (await client.post(server.url, content="hello")).text

    assert asyncio.run(ask()) == "hello"


def test_it_serves_on_a_loop_of_ones_own_until_cancelled():
    async def main() -> str:
        server, ready = ScriptedServer(), asyncio.Event()
        serving = asyncio.create_task(server.serve(ready.set))
        await ready.wait()
        async with httpx.AsyncClient(trust_env=False) as client:
            text = (await client.post(server.url, content="hello")).text
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        return text

    assert asyncio.run(main()) == "hello"


def test_a_port_that_is_taken_says_so_to_who_starts():
    with ScriptedServer() as server:
        other = ScriptedServer()
        other._port = server.port
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1, port {server.port}: .* in use"):
            other.start()


def test_thousands_of_connections_leave_no_descriptor_behind():
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc to count descriptors")
    with ScriptedServer(cut=(CHUNKED, b"one\n", Break.CUT), reset=(Break.RESET,), never=(NEVER,)) as server:
        before = len(list(descriptors.iterdir()))
        for number in range(3000):
            with connected(server) as connection:
                connection.sendall(get(("/", "/cut", "/reset", "/never")[number % 4]))
                if number % 4 != 3:
                    with suppress(ConnectionResetError):
                        connection.recv(1000)
        assert server.wait_until_closed(10)
        # The rest of the process may open one of its own meanwhile; a connection in a hundred that leaked would show.
        assert len(list(descriptors.iterdir())) < before + 30
