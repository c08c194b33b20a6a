"""The fault server over real sockets: every fault as a client meets it, chance by key, weather, records, windows."""

import errno
import json
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from llmlab import (
    AttemptFailure,
    Client,
    ClientPolicy,
    FaultServer,
    MockBackend,
    OllamaBackend,
    RetryPolicy,
    SettingsError,
)
from llmlab.backends.fault_schedule import Window
from llmlab.backends.faults import FAULTS, FaultKind, Faults
from llmlab.backends.server_model import ServerModel
from llmlab.conduct.recording import Outcome
from llmlab.conduct.recording_file import RecordingWriter, read_recording
from llmlab.core.backend import AttemptKey, Timeouts, attempt_header
from llmlab.core.vocabulary import FailureReason
from llmlab.server.windows import closed_times

FAST = {"latency": 0.001, "refusal_latency": 0.0}
ASK = {"model": "m", "prompt": "Hello"}


def healthy(**settings) -> MockBackend:
    return MockBackend(**{**FAST, **settings})


def certain(kind: str) -> MockBackend:
    return healthy(faults=Faults(**{kind: 1.0}))


@pytest.fixture
def http():
    with httpx.Client(trust_env=False, timeout=5) as client:
        yield client


def patch(http, server, path="weather", **settings) -> httpx.Response:
    return http.patch(f"{server.url}/__llmlab__/{path}", json=settings)


# What a client meets


def met(kind: str) -> FailureReason | None:
    """Ask once through llmlab's own Ollama backend; return the reason of the failure."""
    patience = 10.0 if kind == "huge_line" else 0.1
    bounds = Timeouts(connect=patience, first_byte=patience, between_chunks=patience)
    policy = ClientPolicy(retry=RetryPolicy(max_retries=0), attempt_timeout=2 * patience, timeouts=bounds)
    with FaultServer(certain(kind)) as server:
        with Client(OllamaBackend(base_url=server.url, model="m"), policy) as client:
            result = client.generate("Hello")
        assert server.wait_until_closed()
        (record,) = [record for record in server.requests if record.endpoint != "/api/tags"]
    assert record.fault == kind
    return None if result.ok else result.reason


# A port that is open accepts: what its owner does not answer is no failed connection to a client.
_OTHERWISE = {
    "connection_error": FailureReason.CONNECTION_LOST,
    "connect_stall": FailureReason.ATTEMPT_TIMEOUT,
    "truncated": None,
    "slow_drip": None,
    "refusal": FailureReason.EMPTY_OUTPUT,  # Ollama has no word for a content filter
    "invalid_json": None,
    "wrong_schema": None,
    "malformed": None,
}


@pytest.mark.parametrize("kind", list(FaultKind))
def test_a_client_meets_each_fault_as_the_table_says(kind):
    assert met(str(kind)) == _OTHERWISE.get(kind, FAULTS[kind].reason)


def test_a_healthy_server_answers_in_both_languages(http):
    with FaultServer(healthy(text="Hello, you.")) as server:
        native = http.post(f"{server.url}/api/generate", json={**ASK, "stream": False})
        chat = http.post(f"{server.openai_url}/chat/completions", json={"model": "m", "messages": [MESSAGE]})
    assert native.json()["response"] == chat.json()["choices"][0]["message"]["content"] == "Hello, you."
    assert list(native.headers) == ["content-type", "date", "content-length"]
    assert b"Content-Type" in dict(native.headers.raw)


MESSAGE = {"role": "user", "content": "Hello"}


def test_the_root_is_ollamas_sign_of_life_to_programs_and_a_page_to_browsers(http):
    with FaultServer() as server:
        assert http.get(server.url).text == "Ollama is running"
        assert http.head(server.url).headers["content-length"] == "17"
        page = http.get(server.url, headers={"accept": "text/html,application/xhtml+xml"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert "llmlab fault server" in page.text
    assert "http" not in page.text.replace("://", "").replace("http-equiv", "")  # nothing is loaded from elsewhere


# Chance


def statuses(server, http, keys) -> list[int]:
    headers = [{} if key is None else {"x-llmlab-attempt": attempt_header(key)} for key in keys]
    return [http.post(f"{server.url}/api/generate", json=ASK, headers=sent).status_code for sent in headers]


def test_what_befalls_an_attempt_is_fixed_by_its_key_in_whatever_order(http):
    keys = [AttemptKey(call, 1 + call % 2) for call in range(40)]
    with FaultServer(healthy(overload_probability=0.4, seed=7)) as server:
        forth = statuses(server, http, keys)
        back = statuses(server, http, keys[::-1])
        assert {record.keyed for record in server.requests} == {True}
    assert forth == back[::-1]
    assert {200, 503} == set(forth)


def test_others_are_numbered_in_order_of_arrival_and_looking_around_counts_for_nothing(http):
    runs = []
    for _ in range(2):
        with FaultServer(healthy(overload_probability=0.4, seed=7)) as server:
            first = statuses(server, http, [None] * 20)
            http.get(f"{server.url}/api/tags")
            runs.append(first + statuses(server, http, [None] * 20))
            keyed = statuses(server, http, [AttemptKey(call, 1) for call in range(40)])
    assert runs[0] == runs[1] == keyed


def test_a_key_that_is_too_large_is_none(http):
    with FaultServer(healthy()) as server:
        assert statuses(server, http, [AttemptKey(10**19 - 1, 1)]) == [200]
        server.wait_for_requests(1)
        assert [(record.call, record.keyed) for record in server.requests] == [(0, False)]


# Disconnects


def test_a_client_that_goes_frees_its_slot_at_once(http):
    one_slot = healthy(server=ServerModel(service_time=1000.0))
    with FaultServer(one_slot) as server:
        for _ in range(3):
            with suppress(httpx.ReadTimeout):
                http.post(f"{server.url}/api/generate", json=ASK, timeout=0.02)
        assert server.wait_for_requests(3)
        assert server.state()["requests"]["in_flight"] == 0
        server.weather(server=ServerModel(service_time=0.001))
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 200
    assert [record.ended_by for record in server.requests] == ["client"] * 3 + ["server"]


def raw_question() -> bytes:
    body = json.dumps(ASK).encode()
    return b"POST /api/generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_those_that_wait_in_its_queue_are_counted(http):
    with FaultServer(healthy(server=ServerModel(service_time=1000.0))) as server:
        asking = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(3)]
        for one in asking:
            one.sendall(raw_question())
        while http.get(f"{server.url}/__llmlab__/state").json()["requests"]["waiting"] < 2:
            pass  # each question is a turn of the server's loop
        for one in asking:
            one.close()
        assert server._wait_for(lambda: server.state()["requests"]["in_flight"] == 0, 5)
        assert server.state()["requests"]["waiting"] == 0


# The port


def test_while_every_connection_is_refused_the_port_is_closed_and_then_open_again(http):
    refusing = Faults(schedule=Window(kind="connection_error", end=1000.0))
    with FaultServer(certain("overload")) as server:
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 503
        server.weather(faults=refusing)
        assert server._wait_for(lambda: not server.state()["listening"], 5)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        server.weather(faults=Faults())
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 200


def test_a_window_that_is_over_opens_the_port_by_itself(http):
    short = Faults(schedule=Window(kind="connection_error", end=0.05))
    with FaultServer(healthy(faults=short)) as server:
        assert server._wait_for(lambda: not server.state()["listening"], 5)
        assert server._wait_for(lambda: server.state()["listening"], 5)
        assert http.get(server.url).text == "Ollama is running"


def test_windows_that_overlap_are_one_and_those_of_chance_close_nothing():
    schedule = [
        Window(kind="connection_error", start=5, end=7),
        Window(kind="connection_error", start=0, end=2),
        Window(kind="connection_error", start=1, end=3),
        Window(kind="connection_error", start=10, end=11, probability=0.5),
        Window(kind="overload", start=20, end=30),
    ]
    assert list(closed_times(Faults(schedule=schedule))) == [(0, 3), (5, 7)]
    assert list(closed_times(Faults())) == []


# Weather


def test_the_weather_changes_while_it_runs_from_python_and_over_http(http):
    with FaultServer(healthy()) as server:
        assert server.weather(overload_probability=1.0).faults.overload == 1.0
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 503
        assert patch(http, server, overload_probability=0, rate_limit_probability=1).json()["faults"]["rate_limit"] == 1
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 429
        replaced = http.put(f"{server.url}/__llmlab__/weather", json={"latency": 0.0})
        assert replaced.json() == http.get(f"{server.url}/__llmlab__/weather").json()
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 200


def test_a_wrong_setting_is_refused_in_the_settings_own_words_and_changes_nothing(http):
    with FaultServer(healthy()) as server:
        with pytest.raises(SettingsError, match="timeout_probability must be 1 or less, got 2"):
            server.weather(timeout_probability=2)
        refused = patch(http, server, timeout_probability=2)
        misspelt = patch(http, server, timeout_probabilty=0.1)
        assert server.backend == healthy()
    assert (refused.status_code, refused.json()) == (400, {"error": "timeout_probability must be 1 or less, got 2"})
    assert "did you mean 'timeout_probability'?" in misspelt.json()["error"]


def test_counts_and_the_order_of_arrival_are_set_back(http):
    with FaultServer(healthy(overload_probability=0.4, seed=7)) as server:
        before = statuses(server, http, [None] * 20)
        assert http.post(f"{server.url}/__llmlab__/reset", json={}).json()["requests"]["total"] == 0
        assert server.requests == []
        assert statuses(server, http, [None] * 20) == before
        assert sum(entry["requests"] for entry in server.state()["requests"]["counts"]) == 20


def test_settings_that_no_json_can_hold_are_said_to_be_so(http):
    failure = AttemptFailure(FailureReason.OVERLOADED, "busy", 503, cause=OSError())
    with FaultServer(healthy(script=[failure])) as server:
        answer = http.get(f"{server.url}/__llmlab__/weather")
    assert answer.status_code == 500
    assert "'script.0.cause' is of type OSError" in answer.json()["error"]


@pytest.mark.parametrize(
    ("asked", "sent", "status", "words"),
    [
        ("PATCH weather", {"content": b"{}", "headers": {"content-type": "text/plain"}}, 415, "application/json"),
        ("POST reset", {}, 415, "application/json"),
        ("PATCH weather", {"json": {}, "headers": {"host": "evil.test"}}, 403, "this machine"),
        ("GET state", {"headers": {"host": "evil.test"}}, 403, "this machine"),
        ("PATCH weather", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "no JSON"),
        ("PATCH weather", {"json": [1]}, 400, "a JSON object, got a list"),
        ("DELETE weather", {}, 405, "GET, PATCH, PUT, not DELETE"),
        ("GET wether", {}, 404, "did you mean '/__llmlab__/weather'?"),
        ("OPTIONS weather", {"headers": {"origin": "http://evil.test"}}, 405, "not OPTIONS"),
    ],
)
def test_what_may_not_be_asked_of_its_administration_is_refused(http, asked, sent, status, words):
    method, path = asked.split()
    with FaultServer(healthy()) as server:
        answer = http.request(method, f"{server.url}/__llmlab__/{path}", **sent)
        assert server.backend == healthy()
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:99", "[::1]:8080"])
def test_this_machines_own_names_may_administer_it(http, host):
    with FaultServer(healthy()) as server:
        assert http.get(f"{server.url}/__llmlab__/state", headers={"host": host}).status_code == 200


# Records


def test_a_recording_has_every_connection_and_request_and_no_prompt(tmp_path, http):
    file = tmp_path / "conduct.jsonl"
    secret = "a-prompt-that-nobody-may-read"
    with FaultServer(healthy(rate_limit_probability=1.0, faults=Faults(retry_after=1.5)), record=file) as server:
        sent = {"model": "m", "prompt": secret}
        key = {"authorization": "Bearer sk-secret", "x-stainless-retry-count": "2"}
        for _ in range(2):
            http.post(f"{server.url}/api/generate?key=sk-secret", json=sent, headers=key)
        server.weather(rate_limit_probability=0.0)
    recording = read_recording(file)
    first, second = recording.requests
    assert (first.endpoint, first.status, first.fault, first.retry_after_s) == ("/api/generate", 429, "rate_limit", 1.5)
    assert (first.reused, second.reused, first.streaming, first.claimed_retry) == (False, True, True, 2)
    assert first.digest == second.digest != ""
    assert first.arrived_at_s <= first.head_sent_at_s <= first.first_chunk_at_s <= first.ended_at_s
    assert [change.weather["faults"]["rate_limit"] for change in recording.weather] == [0.0]
    assert list(recording.opened) == [0]
    assert recording.ended_at_s is not None
    text = file.read_text()
    assert secret not in text
    assert "sk-secret" not in text


def test_a_recording_is_not_added_to(tmp_path):
    file = tmp_path / "conduct.jsonl"
    file.write_text("mine\n")
    with pytest.raises(SettingsError, match="exists"):
        FaultServer(record=file).start()
    assert file.read_text() == "mine\n"


def test_a_recording_that_takes_no_more_is_left_broken_off_and_stops_no_server(http, tmp_path, monkeypatch, caplog):
    file = tmp_path / "conduct.jsonl"

    def full(_writer, _record):
        raise OSError(errno.ENOSPC, "No space left on device")

    with FaultServer(healthy(), record=file) as server:
        assert statuses(server, http, [None]) == [200]
        monkeypatch.setattr(RecordingWriter, "__call__", full)
        assert statuses(server, http, [None] * 2) == [200] * 2
        assert server.wait_for_requests(3)
    assert len(server.requests) == 3
    assert len(read_recording(file).requests) == 1
    assert read_recording(file).ended_at_s is None
    (said,) = caplog.messages
    assert said.startswith(f"the recording '{file}' is broken off ([Errno 28] No space left on device)")


def test_requests_at_work_when_it_stops_are_recorded_as_open(http):
    with FaultServer(certain("timeout")) as server:
        client = socket.create_connection(("127.0.0.1", server.port))
        client.sendall(raw_question())
        assert server._wait_for(lambda: server.state()["requests"]["in_flight"] == 1, 5)
    client.close()
    (record,) = server.requests
    assert (record.ended_by, record.ended_at_s, record.fault) == ("open", None, "timeout")


def test_what_it_says_of_a_running_server_holds_the_requests_in_flight():
    with FaultServer(certain("timeout")) as server, socket.create_connection(("127.0.0.1", server.port)) as client:
        client.sendall(raw_question())
        assert server._wait_for(lambda: server.state()["requests"]["in_flight"] == 1, 5)
        recording = server.recording()
        assert [request.ended_by for request in recording.requests] == ["open"]
        assert recording.ended_at_s is not None
        assert server.requests == []
        assert server.verdict(deadline=60.0)["hung"].ruling == "unknown"
        late = server.verdict(deadline=1e-9, deadline_tolerance=0.0)
    assert late["hung"].ruling == "guilty"
    assert not late.passed


def test_a_verdict_of_a_running_server_tells_leaked_connections(http):
    with FaultServer(healthy()) as server:
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 200
        assert server.verdict()["leaked_connections"].ruling == "unknown"  # it may be the client's pool
        http.close()
        assert server.verdict(client_ended=True)["leaked_connections"].ruling == "innocent"


def test_a_verdict_takes_what_the_client_reports(http):
    reported = Outcome(outcome="answered", started_at_s=0.0, ended_at_s=60.0)
    with FaultServer(certain("cut")) as server:
        with suppress(httpx.RemoteProtocolError):
            http.post(f"{server.url}/api/generate", json=ASK)
        assert server.wait_for_requests(1)
        assert server.verdict()["accepted_truncated"].ruling == "unknown"
        assert server.verdict(outcomes=[reported])["accepted_truncated"].ruling == "guilty"


def test_a_standard_that_does_not_exist_is_refused():
    with pytest.raises(SettingsError, match="did you mean 'deadline'"):
        FaultServer().verdict(deadlin=1.0)


def test_requests_in_flight_when_it_is_set_back_count_as_new_and_keep_their_numbers(http):
    with FaultServer(certain("timeout")) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(raw_question())
            assert server._wait_for(lambda: server.state()["requests"]["in_flight"] == 1, 5)
            server.reset()
            assert server.state()["requests"]["total"] == 1
        assert server.wait_for_requests(1)
        server.weather(timeout_probability=0.0)
        assert http.post(f"{server.url}/api/generate", json=ASK).status_code == 200
        assert server.wait_for_requests(2)
        assert [(request.request, request.ended_by) for request in server.requests] == [(0, "client"), (1, "server")]


def test_paths_without_end_are_counted_together(http):
    with FaultServer() as server:
        for number in range(60):
            http.get(f"{server.url}/nosuch/{number}")
        endpoints = {entry["endpoint"]: entry["requests"] for entry in server.state()["requests"]["counts"]}
    assert len(endpoints) == 51
    assert endpoints["(other)"] == 10


def test_many_clients_at_once_are_all_answered_and_accounted_for():
    with FaultServer(healthy(overload_probability=0.2)) as server:

        def ask(_: int) -> int:
            with httpx.Client(trust_env=False) as client:
                return [client.post(f"{server.url}/api/generate", json=ASK).status_code for _ in range(10)].count(200)

        with ThreadPoolExecutor(8) as pool:
            answered = sum(pool.map(ask, range(16)))
        assert server.wait_until_closed()
        state = server.state()["requests"]
    assert state["total"] == 160
    assert sum(entry["requests"] for entry in state["counts"] if entry["status"] == 200) == answered


def test_what_is_no_backend_is_refused():
    with pytest.raises(TypeError, match="must be a MockBackend, got a OllamaBackend"):
        FaultServer(OllamaBackend())
    with pytest.raises(TypeError, match="must be a MockBackend, got the class MockBackend"):
        FaultServer(MockBackend)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"host": ""}, "host must be an address to listen on"),  # to the system it means every address there is
        ({"host": None}, "host must be an address to listen on"),
        ({"port": 65536}, "port must be a whole number from 0 to 65535, got 65536"),
        ({"port": "80"}, "port must be a whole number from 0 to 65535, got '80'"),
    ],
)
def test_where_no_server_can_listen_is_refused(where, message):
    with pytest.raises(SettingsError, match=message):
        FaultServer(**where)


def test_a_script_is_met_once_by_requests_without_a_key_and_again_after_a_change():
    with FaultServer(MockBackend(latency=0.0, refusal_latency=0.0, script=["overload"])) as server:
        with httpx.Client(base_url=server.url, trust_env=False) as client:

            def ask() -> int:
                return client.post("/api/generate", json={"model": "m", "prompt": "Hello"}).status_code

            assert [ask(), ask(), ask()] == [503, 200, 200]
            server.weather(script=["answer", "rate_limit"])
            assert [ask(), ask(), ask()] == [200, 429, 200]
        assert [(request.call, request.attempt) for request in server.requests][2:4] == [(0, 3), (3, 1)]
