import asyncio

import httpx
import pytest

from llmlab import FaultKind, FaultServer, MockBackend, ServerModel, SettingsError
from llmlab.server.replay import ReplayServer
from llmlab.server.upstream import POSSIBLE
from tests.ollama_replay import recorded

BODY = {"model": "mock", "prompt": "Hello"}


@pytest.fixture
def real():
    with FaultServer(MockBackend(latency=0.0, text="This is what the real server says.")) as server:
        yield server


def ask(server, **how):
    with httpx.Client(trust_env=False) as http:
        return http.post(f"{server.url}/api/generate", json=BODY, **how)


def test_without_faults_the_real_servers_answer_comes_through_piece_by_piece(real):
    with FaultServer(upstream=real.url) as front:
        answer = ask(front)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert len(answer.text.splitlines()) > 5
    assert real.requests[0].endpoint == "/api/generate"


def test_listings_and_queries_of_other_paths_go_through_as_well(real):
    with FaultServer(MockBackend(overload_probability=1.0), upstream=real.url) as front:
        models = httpx.get(f"{front.url}/api/tags", trust_env=False).json()
    assert models["models"][0]["name"].startswith("mock")


def test_a_query_is_passed_on_and_kept_nowhere():
    (listed,) = recorded("version")
    with ReplayServer([listed]) as real, FaultServer(upstream=real.url) as front:
        received = []
        answer, real.answer = real.answer, lambda served: (received.append(served.request.query), answer(served))[1]
        httpx.get(f"{front.url}/api/version?limit=5&key=sk-1", trust_env=False)
        assert "sk-1" not in repr(front.recording())
    assert received == ["limit=5&key=sk-1"]


def test_the_connections_to_the_real_server_outlive_a_change_of_the_weather(real):
    with FaultServer(upstream=real.url) as front:
        for _ in range(3):
            assert ask(front).status_code == 200
            front.weather(overload_probability=0.0, seed=1)
        assert real.connections == 1
    assert real.wait_until_closed()


def test_more_clients_than_a_pool_is_wide_reach_the_real_server_at_once():
    async def all_at_once(url: str) -> list[object]:
        async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=None), timeout=20) as http:
            asked = (http.post(f"{url}/api/generate", json={**BODY, "stream": False}) for _ in range(150))
            answers = asyncio.gather(*asked, return_exceptions=True)
            await asyncio.to_thread(real._wait_for, lambda: real.state()["requests"]["in_flight"] == 150, 15)
            assert real.state()["requests"]["in_flight"] == 150
            await asyncio.to_thread(real.stop)  # it was to answer none of them
            return await answers

    real = FaultServer(MockBackend(timeout_probability=1.0))
    with real, FaultServer(upstream=real.url) as front:
        answers = asyncio.run(all_at_once(front.url))
    assert {getattr(answer, "status_code", None) for answer in answers} == {502}


def test_it_says_what_it_stands_in_front_of(real):
    with FaultServer(upstream=real.url) as front:
        assert front.state()["upstream"] == real.url
        assert front.recording().header.server.endswith(f" in front of {real.url}")


def test_a_refusal_comes_before_the_real_server_is_asked(real):
    with FaultServer(MockBackend(rate_limit_probability=1.0), upstream=real.url) as front:
        assert ask(front).status_code == 429
        assert front.requests[0].fault == "rate_limit"
    assert real.requests == []


def test_a_cut_breaks_the_answer_in_the_middle(real):
    front = FaultServer(MockBackend(cut_probability=1.0), upstream=real.url)
    with front, pytest.raises(httpx.RemoteProtocolError):
        ask(front)


def test_a_stall_sends_one_piece_and_then_nothing_until_the_client_goes(real):
    with FaultServer(MockBackend(stall_probability=1.0), upstream=real.url) as front:
        with pytest.raises(httpx.ReadTimeout):
            ask(front, timeout=0.2)
        assert front.wait_for_requests(1)


def test_another_type_and_bytes_that_are_no_text_are_put_in(real):
    with FaultServer(MockBackend(wrong_content_type_probability=1.0), upstream=real.url) as front:
        assert ask(front).headers["content-type"] == "text/html"
    with FaultServer(MockBackend(invalid_utf8_probability=1.0), upstream=real.url) as front:
        assert b"\xff\xfe" in ask(front).content


def test_the_same_attempt_meets_the_same_fault_as_on_the_simulated_server(real):
    weather = MockBackend(overload_probability=0.5, latency=0.0, seed=3)
    keyed = [{"x-llmlab-attempt": f"{call}.1"} for call in range(20)]
    with FaultServer(weather) as simulated, FaultServer(weather, upstream=real.url) as front:
        assert [ask(simulated, headers=one).status_code for one in keyed] == [
            ask(front, headers=one).status_code for one in keyed
        ]


def test_credentials_are_passed_on_and_recorded_nowhere(real, tmp_path):
    seen = tmp_path / "seen.jsonl"
    with FaultServer(upstream=real.url, record=seen) as front:
        ask(front, headers={"authorization": "Bearer canary-key"})
        assert front.wait_for_requests(1)
    assert "canary-key" not in seen.read_text()


def test_a_real_server_that_is_not_there_is_a_bad_gateway():
    with FaultServer(upstream="http://127.0.0.1:9") as front:
        answer = ask(front)
    assert answer.status_code == 502
    assert "the upstream server does not answer (ConnectError)" in answer.json()["error"]


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in POSSIBLE])
def test_a_fault_that_needs_an_understanding_of_the_answer_is_refused_with_those_that_are_possible(kind):
    with pytest.raises(SettingsError, match=f"'{kind}' is not possible in front of a real server; valid: timeout, "):
        FaultServer(MockBackend(**{f"{kind}_probability": 0.1}), upstream="http://127.0.0.1:11434")


def test_what_only_a_simulated_server_has_is_refused():
    with pytest.raises(SettingsError, match="leave out server, profile and script"):
        FaultServer(MockBackend(server=ServerModel(slots=1)), upstream="http://127.0.0.1:11434")
    with pytest.raises(SettingsError, match="upstream must be an address such as"):
        FaultServer(upstream="ftp://nowhere")
    with pytest.raises(SettingsError, match="upstream must be an address such as"):
        FaultServer(upstream=11434)


def test_a_weather_that_is_not_possible_is_refused_while_it_runs_too(real):
    with FaultServer(upstream=real.url) as front:
        with pytest.raises(SettingsError, match="'empty' is not possible"):
            front.weather(empty_probability=0.1)
        told = httpx.patch(f"{front.url}/__llmlab__/weather", json={"empty_probability": 0.1}, trust_env=False)
        assert told.status_code == 400
        assert "'empty' is not possible in front of a real server" in told.text
        assert ask(front).status_code == 200
