import socket
import time
from pathlib import Path

import pytest

import llmlab.server
from llmlab.server.recording import Chunk, Exchange, load, recordings
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import RECORDINGS, recorded


def post(path: str, body: str, method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


LAST = b"\r\nConnection: close"


def talk(server: ReplayServer, sent: bytes, *, close: bool = True) -> bytes:
    """Send requests and return all that comes back until the server closes, which the last one asks for."""
    if close:
        before, host, after = sent.rpartition(b"\r\nHost: x")
        sent = before + host + (LAST if host else b"") + after
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(sent)
        received = b""
        while data := connection.recv(65536):
            received += data
        return received.replace(LAST, b"") if close else received


GENERATE = '{"model": "tiny", "prompt": "Once upon a time", "stream": %s}'


def test_a_stream_comes_back_byte_for_byte_with_its_chunks():
    (exchange,) = recorded("generate_stream")
    with ReplayServer([exchange]) as server:
        received = talk(server, post("/api/generate", GENERATE % "true"))
    head, _, body = received.partition(b"\r\n\r\n")
    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n"
        b"Date: Sun, 22 Nov 2026 18:14:47 GMT\r\nTransfer-Encoding: chunked"
    )
    expected = b"".join(b"%x\r\n%b\r\n" % (len(chunk.data), chunk.data) for chunk in exchange.chunks)
    assert body == expected + b"0\r\n\r\n"
    assert len(exchange.chunks) == 13


def test_a_body_with_a_length_and_a_raw_recording_come_back_byte_for_byte():
    (plain,), (raw,) = recorded("generate_missing_model"), recorded("generate_body_cut")
    with ReplayServer([plain, raw]) as server:
        missing = talk(server, post("/api/generate", '{"model": "nosuch", "stream": false}'))
        cut = talk(server, post("/api/generate", '{"model": "ti'))
    assert missing.endswith(b'Content-Length: 36\r\n\r\n{"error":"model \'nosuch\' not found"}')
    assert cut.decode().splitlines() == [
        "HTTP/1.1 400 Bad Request",
        "Content-Type: application/json; charset=utf-8",
        "Date: Sun, 22 Nov 2026 18:14:51 GMT",
        "Content-Length: 26",
        "",
        '{"error":"unexpected EOF"}',
    ]


def test_a_body_that_the_recorder_shortened_gets_its_true_length():
    (exchange,) = recorded("chat_tools")
    assert dict(exchange.headers)["Content-Length"] == str(len(exchange.chunks[0].data))


def test_a_head_request_gets_the_headers_alone():
    with ReplayServer(recorded("head_root")) as server:
        received = talk(server, post("/", "", "HEAD"))
    assert received.endswith(b"Content-Length: 17\r\n\r\n")


def test_one_connection_serves_many_requests():
    with ReplayServer(recorded("version")) as server:
        received = talk(server, post("/api/version", "", "GET") * 3)
        assert received.count(b'{"version":"0.32.15"}') == 3
        assert server.connections == 1


def test_an_answer_is_chosen_by_model_and_stream():
    with ReplayServer([*recorded("generate"), *recorded("generate_stream"), *recorded("empty_answer")]) as server:
        streamed = talk(server, post("/api/generate", GENERATE % "true"))
        by_default = talk(server, post("/api/generate", '{"model": "tiny"}'))
        whole = talk(server, post("/api/generate", GENERATE % "false"))
        tagged = talk(server, post("/api/generate", '{"model": "tiny:latest"}'))
        empty = talk(server, post("/api/generate", '{"model": "tiny-eos"}'))
    assert streamed == by_default == tagged
    assert streamed.count(b'"done":false') == 12
    assert b"application/json" in whole
    assert b'"response":"","done":true' in empty


def test_several_that_fit_take_turns():
    with ReplayServer(recorded("busy_503_reload")) as server:
        statuses = [talk(server, post("/api/generate", '{"model": "tiny-slow"}'))[9:12] for _ in range(4)]
    assert statuses == [b"200", b"503", b"200", b"503"]


@pytest.mark.parametrize(
    ("sent", "status", "words"),
    [
        (post("/api/generate", '{"model": "other"}'), b"404", b'{"error": "model \'other\' not found"}'),
        (post("/api/nosuch", ""), b"404", b"404 page not found"),
        (post("/api/generate", "", "GET"), b"405", b"405 method not allowed"),
    ],
)
def test_what_was_not_recorded_gets_what_ollama_would_say(sent, status, words):
    with ReplayServer(recorded("generate_stream")) as server:
        received = talk(server, sent)
    assert received[9:12] == status
    assert received.endswith(words)


def streamed(ending) -> Exchange:
    return recorded("generate_stream")[0].replace(ending=ending)


def test_a_cut_ends_the_connection_inside_the_body():
    with ReplayServer([streamed("cut")]) as server:
        received = talk(server, post("/api/generate", GENERATE % "true"), close=False)
    assert received.endswith(b"}\n\r\n")


def test_a_reset_is_one():
    with ReplayServer([streamed("reset")]) as server, pytest.raises(ConnectionResetError):
        talk(server, post("/api/generate", GENERATE % "true"), close=False)


def test_a_stall_lasts_until_the_client_goes_away_or_the_server_stops():
    with ReplayServer([streamed("stall")]) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
            connection.sendall(post("/api/generate", GENERATE % "true"))
            assert server.wait_for_requests(1)
            assert not server.wait_until_closed(timeout=0.05)
        assert server.wait_until_closed()
        waiting = socket.create_connection(("127.0.0.1", server.port), timeout=5)
        waiting.sendall(post("/api/generate", GENERATE % "true"))
        assert server.wait_for_requests(2)
    with waiting:
        while waiting.recv(65536):
            pass


def test_the_pace_of_the_recording_can_be_kept():
    slow = streamed("complete").replace(chunks=(Chunk(b"a", 0.0), Chunk(b"b", 0.2)))
    for pace, shortest, longest in ((1.0, 0.2, 2.0), (0.0, 0.0, 0.15)):
        with ReplayServer([slow], pace=pace) as server:
            began = time.perf_counter()
            talk_to_the_end(server)
            assert shortest <= time.perf_counter() - began < longest


def talk_to_the_end(server: ReplayServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(post("/api/generate", GENERATE % "true"))
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(65536)


def test_it_listens_on_this_machine_only_and_says_where():
    with ReplayServer([]) as server:
        assert server.url.startswith("http://127.0.0.1:")
        assert repr(server) == f"ReplayServer({server.url!r}, 0 exchanges)"
        with pytest.raises(OSError, match="in use"):
            ReplayServer([], port=server.port).start()
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        talk(server, post("/", ""))


def test_requests_are_remembered_without_end_of_memory():
    with ReplayServer(recorded("version")) as server:
        talk(server, post("/api/version?x=1", '{"a": 1}', "GET"))
        (request,) = server.received
    assert (request.method, request.path, request.headers["host"]) == ("GET", "/api/version", "x")
    assert request.json() == {"a": 1}


# The recordings that come with the package

SHIPPED = {
    "version": "version",
    "tags": "tags",
    "ps": "ps_loaded",
    "generate_stream": "generate_stream",
    "chat_stream": "chat_stream",
    "missing_model": "generate_missing_model",
    "busy_503": "busy_503_reload",
    "error_mid_stream": "error_mid_stream_generate",
    "cut": "server_sigkill_stream",
}


def test_the_shipped_recordings_are_the_recorded_ones():
    folder = Path(llmlab.server.__file__).parent / "recordings"
    assert {path.stem for path in folder.glob("*.json")} == SHIPPED.keys()
    for shipped, case in SHIPPED.items():
        assert (folder / f"{shipped}.json").read_bytes() == (RECORDINGS / f"{case}.json").read_bytes()


def test_shipped_recordings_are_loaded_by_name_or_all_at_once():
    assert {exchange.path for exchange in recordings()} == {
        *("/api/version", "/api/tags", "/api/ps"),
        *("/api/generate", "/api/chat"),
    }
    assert [exchange.status for exchange in recordings("missing_model", "busy_503")] == [404, 200, 503]
    with pytest.raises(ValueError, match="there is no recording 'nosuch'; there are: version, tags"):
        recordings("nosuch")


def test_the_server_answers_from_them_by_default():
    with ReplayServer() as server:
        tiny = talk(server, post("/api/generate", GENERATE % "true"))
        slow = [talk(server, post("/api/generate", '{"model":"tiny-slow"}'))[9:12] for _ in range(4)]
    assert tiny.startswith(b"HTTP/1.1 200")
    assert slow == [b"200", b"503", b"200", b"200"]


@pytest.mark.parametrize("path", sorted(RECORDINGS.glob("*.json")), ids=lambda path: path.stem)
def test_every_recording_can_be_read(path):
    for exchange in load(path):
        assert exchange.status in range(200, 600)
        assert exchange.case == path.stem
