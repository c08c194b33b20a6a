"""`describe()` and `warm_up()` of a `LocalLLM`, and what a message says of the models that are there."""

import asyncio
import json
from typing import Any

import pytest

from llmlab import AsyncLocalLLM, LLMError, LLMFailure, LocalLLM, WarmUp
from llmlab.core.vocabulary import FailureReason
from llmlab.llms import LOCAL_POLICY
from llmlab.server.recording import Chunk, Exchange
from llmlab.server.replay import ReplayServer
from tests.ollama_replay import LAST, answer, line, listing, recorded, tags

R = FailureReason
GONE = "http://127.0.0.1:9"  # discard: nobody listens there
LOADED = recorded("generate_load_empty_prompt")


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Any:
    """Call a method of a LocalLLM, or of its async twin, by name."""

    def sync(method: str, *arguments: Any, **settings: Any) -> Any:
        with LocalLLM(**settings) as llm:
            return getattr(llm, method)(*arguments)

    async def awaited(method: str, *arguments: Any, **settings: Any) -> Any:
        async with AsyncLocalLLM(**settings) as llm:
            return await getattr(llm, method)(*arguments)

    return sync if request.param == "sync" else lambda *given, **more: asyncio.run(awaited(*given, **more))


# What the server is


def test_a_server_describes_itself(ask):
    exchanges = [*recorded("version"), *recorded("tags"), *recorded("ps_loaded")]
    with ReplayServer(exchanges) as server:
        description = ask("describe", base_url=server.url)
        assert server.wait_until_closed(), "closing the client closes what describe opened"
        assert server.open_connections == 0
    assert description.ok
    assert (description.version, description.base_url, description.slots) == ("0.32.15", server.url, None)
    assert [model.name for model in description.models] == [
        "tiny-slow:latest",
        "tiny-eos:latest",
        "tiny-repeat:latest",
        "tiny:latest",
        "tiny-bytes:latest",
    ]
    assert [model.name for model in description.loaded] == ["tiny:latest"]
    assert description.problems == ()


def test_slots_are_known_where_a_server_has_the_props_of_llama_cpp(ask):
    props = answer(b'{"total_slots":4}', path="/props", method="GET", kind="application/json")
    with ReplayServer([*recorded("version"), props]) as server:
        assert ask("describe", base_url=server.url).slots == 4


def test_without_a_server_the_description_says_so(ask):
    description = ask("describe", base_url=GONE)
    assert not description.ok
    assert (description.version, description.models, description.loaded) == (None, None, None)
    (problem,) = description.problems
    assert "connection refused" in problem
    assert "start it with `ollama serve`" in problem


def test_what_one_listing_does_not_answer_leaves_the_others(ask):
    stalled = answer(b"{", path="/api/ps", method="GET", ending="stall")
    policy = LOCAL_POLICY.replace(timeouts=LOCAL_POLICY.timeouts.replace(first_byte=0.1))
    with ReplayServer([*recorded("version"), *recorded("tags"), stalled]) as server:
        description = ask("describe", base_url=server.url, policy=policy)
    assert description.version == "0.32.15"
    assert description.loaded is None
    (problem,) = description.problems
    assert "within 0.1 s" in problem


# A model made ready


def test_warming_up_loads_the_model_as_calls_will_ask_for_it(ask):
    exchanges = [*LOADED, *recorded("ps_empty"), *recorded("ps_loaded")]
    with ReplayServer(exchanges) as server:
        warm = ask("warm_up", base_url=server.url, model="tiny", options={"num_gpu": 0}, keep_alive="30m")
        (post,) = [request for request in server.received if request.method == "POST"]
    assert post.path == "/api/generate"
    assert post.json() == {
        "model": "tiny",
        "prompt": "",
        "stream": False,
        "options": {"num_gpu": 0},
        "keep_alive": "30m",
    }
    assert isinstance(warm, WarmUp)
    assert (warm.ok, warm.model, warm.was_loaded) == (True, "tiny", False)
    assert warm.loaded.context_length == 2048
    assert warm.latency > 0
    assert warm.unwrap() is warm


def test_warming_up_takes_the_named_model_or_the_first_installed_one(ask):
    with ReplayServer([tags("first", "second"), answer(LAST)]) as server:
        assert ask("warm_up", base_url=server.url).model == "first"
        assert ask("warm_up", "other", base_url=server.url, model="m").model == "other"


def test_a_model_that_was_loaded_already_is_told_apart(ask):
    with ReplayServer([*recorded("ps_loaded"), answer(LAST)]) as server:
        assert ask("warm_up", base_url=server.url, model="tiny").was_loaded is True
    with ReplayServer([answer(LAST)]) as server:
        assert ask("warm_up", base_url=server.url, model="tiny").was_loaded is None


@pytest.mark.parametrize("model", [5, "", ["tiny"]])
def test_what_is_no_name_of_a_model_is_refused(ask, model):
    with pytest.raises(TypeError, match="model must be a model's name"):
        ask("warm_up", model, base_url=GONE)


BUSY = answer(b'{"error":"server busy"}', status="503 Service Unavailable", headers=(("Retry-After", "7"),))


@pytest.mark.parametrize(
    ("exchange", "reason", "retryable"),
    [
        (BUSY, R.OVERLOADED, True),
        (answer(b'{"error":"llama runner process has terminated"}', status="500 Oops"), R.SERVER_ERROR, True),
        (answer(b'{"error":"it broke"}'), R.SERVER_ERROR, True),
        (answer(b"nonsense"), R.MALFORMED_RESPONSE, True),
        (answer(line("a")), R.MALFORMED_RESPONSE, True),
        (answer(b"{", ending="cut"), R.CONNECTION_LOST, True),
        (answer(b"{", ending="stall"), R.ATTEMPT_TIMEOUT, True),
        *((one, R.MODEL_NOT_FOUND, False) for one in recorded("generate_missing_model")),
    ],
)
def test_a_warm_up_that_fails_is_a_failure_and_no_exception(ask, exchange, reason, retryable):
    with ReplayServer([exchange]) as server:
        failure = ask("warm_up", base_url=server.url, model="nosuch", total_timeout=0.3)
        assert server.wait_until_closed()
    assert isinstance(failure, LLMFailure)
    assert (failure.reason, failure.retryable, failure.attempts) == (reason, retryable, 1)
    assert failure.latency > 0
    with pytest.raises(LLMError):
        failure.unwrap()


def test_a_warm_up_without_a_server_or_a_model_says_what_to_do(ask):
    assert "start it with `ollama serve`" in ask("warm_up", base_url=GONE).message
    with ReplayServer([tags()]) as server:
        assert "has no model installed" in ask("warm_up", base_url=server.url).message


def test_a_load_may_take_longer_than_a_first_byte():
    slow = answer().replace(chunks=(Chunk(LAST, at=0.3),))
    with ReplayServer([slow], pace=1) as server:
        timeouts = LOCAL_POLICY.timeouts.replace(first_byte=0.1, between_chunks=0.1)
        with LocalLLM(base_url=server.url, model="m", timeouts=timeouts) as llm:
            assert llm.warm_up().latency > 0.2


# Which models there are


def missing(*exchanges: Exchange, model: str = "lama3.2") -> LLMFailure:
    gone = answer(json.dumps({"error": f"model '{model}' not found"}).encode(), status="404 Not Found")
    with (
        ReplayServer([gone, *exchanges]) as server,
        LocalLLM(base_url=server.url, model=model, max_retries=0) as llm,
    ):
        failure = llm.generate("Hello")
    assert isinstance(failure, LLMFailure)
    assert (failure.reason, failure.status_code) == (R.MODEL_NOT_FOUND, 404)
    return failure


def test_a_missing_model_is_named_with_those_that_are_there():
    message = missing(tags("llama3.2:latest", "qwen3:8b")).message
    assert "has no model 'lama3.2'; did you mean 'llama3.2'? installed: llama3.2, qwen3:8b; " in message
    assert "try `ollama pull lama3.2` (while a model is being pulled, it is not there yet)" in message
    assert "none is installed" in missing(tags()).message


@pytest.mark.parametrize(
    "listing_",
    [
        answer(b"nonsense", path="/api/tags", method="GET"),
        answer(b"{", path="/api/tags", method="GET", ending="stall"),
        listing("/api/ps"),
    ],
)
def test_a_missing_model_is_known_even_where_the_others_are_not(listing_):
    message = missing(listing_).message
    assert "has no model 'lama3.2'; try `ollama pull lama3.2`, or see what is there with `ollama list`" in message
